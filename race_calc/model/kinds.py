"""The kinds of surfaces, and what each reads from the atoms beside the energy's channel; their values: `race_calc.model.pooling`."""

from race_calc.model.channels import Channel

KINDS: dict[str, tuple[Channel, ...]] = {
    "energy": (),
    "scalar": (),
    "sum": (),
    "mean": (),
    "dipole": (Channel("charge"), Channel("dipole", "1o")),
    "extent": (Channel("weight"),),
}
PROPERTIES = ("sum", "mean", "dipole", "extent")  # of molecules, without forces
ADDITIVE = ("energy", "sum")  # the sum of what the atoms have
