"""The kinds of surfaces, and what each reads from the atoms; their values: `race_calc.model.pooling`."""

from race_calc.model.channels import ENERGY, Channel

KINDS: dict[str, tuple[Channel, ...]] = {
    "energy": (ENERGY,),
    "scalar": (ENERGY,),
    "sum": (ENERGY,),
    "mean": (ENERGY,),
    "dipole": (Channel("charge"), Channel("dipole", "1o")),
    "extent": (ENERGY, Channel("weight")),
}
PROPERTIES = ("sum", "mean", "dipole", "extent")  # of molecules, without forces
ADDITIVE = ("energy", "sum")  # the sum of what the atoms have


def beside_energy(kind: str) -> tuple[Channel, ...]:
    """What it reads beside the energy's channel, which every surface has."""
    return tuple(channel for channel in KINDS[kind] if channel is not ENERGY)
