"""The reference method of a learning run: what labels, and whether it is the one that labelled before."""

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read

from race_calc.label.file import label_frames
from race_calc.label.frame import bare
from race_calc.label.given import Given
from race_calc.label.methods import Method

ELSEWHERE = "elsewhere"  # the user labels, between two calls
ENERGY, FORCES = 2e-3, 2e-2  # eV/atom and eV/Å: two runs of one method on one structure differ by less


def reference_of(source: Any) -> Method | Given | None:
    """A `Method` by its name, the calculator, None for ELSEWHERE. Raises ValueError for an unknown name, TypeError for other things."""
    if source == ELSEWHERE:
        return None
    if isinstance(source, (Method, Given)):
        return source
    return Method(source) if isinstance(source, str) else Given(source)


def check_reference(known: Atoms, reference: Method | Given, path: Path) -> None:
    """Label a structure of the training again, to `path`, and compare.

    Raises ValueError where the labels differ by more than ENERGY or FORCES: the training then has labels of another method, or of the
    same with another zero of energies; and where it cannot be labelled.
    """
    if not path.exists():
        label_frames([bare(known)], path, reference, 1)
    again: Any = read(path)
    per_atom = (again.get_potential_energy() - known.get_potential_energy()) / len(known)
    forces = float(np.sqrt(((again.get_forces() - known.get_forces()) ** 2).sum(axis=1).max()))
    if abs(per_atom) <= ENERGY and forces <= FORCES:
        return
    path.unlink()  # another reference may be given next
    if forces <= FORCES:
        raise ValueError(
            f"energies of {reference.name} have another zero than those of the training: {per_atom:+.4g} eV per atom on a structure of it, "
            f"with the same forces; use the reference that labelled the training data, or shift its energies"
        )
    raise ValueError(
        f"{reference.name} did not label the training data: on a structure of them its forces differ by up to {forces:.3g} eV/Å and its "
        f"energy by {per_atom:+.3g} eV per atom; use the method and the settings of the training data"
    )
