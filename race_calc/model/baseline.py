"""What a prediction starts from, by the name in `model.baseline`; the network learns the difference.

========= ============================================== ===========================
name      what it is                                     costs
========= ============================================== ===========================
zbl       screened repulsion of nuclei at short range    nothing that can be measured
none      nothing
gfn2-xtb  tight binding (`race_calc.label.methods`)      an SCF in every step
gfn1-xtb  the same
external  a calculator that the user hands in            its own step
========= ============================================== ===========================

A baseline is the same for all members and has no uncertainty of its own. A model says which one it was trained with (`record`), and
refuses another (`check`): the version of the program, or what an external one gives for a structure of the training.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from ase import Atoms

from race_calc.data.contribution import Baseline
from race_calc.data.graph import from_atoms
from race_calc.label import methods
from race_calc.label.calculated import Calculated
from race_calc.label.methods import Method
from race_calc.model.repulsion import repulsion

EXTERNAL = "external"
CANDIDATES = 5  # smallest structures, of which the one with the largest forces is kept
SAME_ENERGY, SAME_FORCES = 1e-3, 1e-2  # eV, eV/Å: by how much an external baseline may differ from that of the training


def names() -> tuple[str, ...]:
    return "zbl", "none", *methods.names(), EXTERNAL


def baseline_of(name: str, cutoff: float, external: Any = None, continues: bool = True) -> Baseline | None:
    """The baseline of that name; None for "none". `cutoff` of the model in Å; `external`: the calculator of the user. `continues`:
    structures are those of a run, so a method may start from its last density; False: each is as if it were the only one.

    Raises ValueError where an external one is not given, one is given that no one asks for, it is no ASE calculator, or the package
    of a method is missing.
    """
    if (external is not None) != (name == EXTERNAL):
        raise ValueError(
            "the model predicts differences to a calculator of yours (baseline external): hand it in, in a script as "
            "RACECalculator(…, baseline=calculator), or as --baseline module:function to the commands that have it (not md and relax)"
            if external is None
            else f"the model's baseline is {name}: leave out the calculator that was given as baseline"
        )
    if name == "none":
        return None
    if name == "zbl":
        return partial(repulsion, cutoff=cutoff)
    if name == EXTERNAL:
        if not methods.is_calculator(external):
            raise ValueError(f"the baseline is a {type(external).__name__}, which is no ASE calculator")
        return Calculated(external, continues)
    Method(name).calculator()  # a missing package is told now
    return Calculated(Method(name), continues)


def record(name: str, baseline: Baseline | None, structures: Sequence[Atoms]) -> dict[str, Any]:
    """What a checkpoint keeps of its baseline, plain JSON types; of an external one what it gives for a small structure."""
    if name in methods.names():
        return {"code": Method(name).code()}
    if name != EXTERNAL or baseline is None:
        return {}
    several = [atoms for atoms in structures if len(atoms) > 1] or list(structures)  # of one atom many methods say nothing
    told = [(atoms, *_told(baseline, atoms)) for atoms in sorted(several, key=len)[:CANDIDATES]]
    atoms, energy, forces = max(told, key=lambda one: float(np.abs(one[2]).max()))
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": atoms.pbc.tolist(),
        "energy": energy,
        "forces": forces.tolist(),
    }


def check(name: str, baseline: Baseline | None, kept: dict[str, Any]) -> None:
    """Raises ValueError where the baseline is not the one of the training."""
    if name in methods.names():
        code = Method(name).code()
        if kept.get("code") != code:
            raise ValueError(f"the model was trained with {name} of {kept.get('code')}, here is {code}: install that version")
    if name == EXTERNAL and baseline is not None:
        try:
            atoms = Atoms(kept["numbers"], kept["positions"], cell=kept["cell"], pbc=kept["pbc"])
            expected = float(kept["energy"]), np.array(kept["forces"], dtype=np.float64).reshape(len(atoms), 3)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the model does not tell what its baseline gave in training ({error!r}): copy the folder again") from None
        energy, forces = _told(baseline, atoms)
        off = abs(energy - expected[0]), float(np.abs(forces - expected[1]).max())
        if not (off[0] <= SAME_ENERGY and off[1] <= SAME_FORCES):
            raise ValueError(
                f"the calculator that was given as baseline is not that of the training: for a structure of it energies differ by "
                f"{off[0]:.3g} eV and forces by {off[1]:.3g} eV/Å; give the same method with the same settings"
            )


def _told(baseline: Baseline, atoms: Atoms) -> tuple[float, np.ndarray]:
    found = baseline(from_atoms(atoms, 1.0))  # a calculator needs no pairs
    return float(found.atom_energy.sum()), found.forces
