"""The reference method of a learning run: what labels, and whether it is the one that labelled before."""

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from ase.stress import full_3x3_to_voigt_6_stress

from race_calc.label.file import IN_THIS_PROCESS, failed_beside, label_frames
from race_calc.label.frame import bare
from race_calc.label.given import Given
from race_calc.label.methods import Method

ELSEWHERE = "elsewhere"  # the user labels, between two calls
ENERGY, FORCES, STRESS = 2e-3, 2e-2, 1e-3  # eV/atom, eV/Å, eV/Å³: two runs of one method on one structure differ by less


def reference_of(source: Any) -> Method | Given | None:
    """A `Method` by its name, the calculator, None for ELSEWHERE. Raises ValueError for an unknown name, TypeError for other things."""
    if source == ELSEWHERE:
        return None
    if isinstance(source, (Method, Given)):
        return source
    return Method(source) if isinstance(source, str) else Given(source)


def check_reference(known: Atoms, reference: Method | Given, path: Path) -> None:
    """Label a structure of the training again, to `path`, and compare.

    Raises ValueError where the labels differ by more than ENERGY, FORCES or STRESS: the training then has labels of another method, or of
    the same with another zero of energies; and where it cannot be labelled.
    """
    for old in (path, failed_beside(path), path.with_name(path.name + ".journal")):
        old.unlink(missing_ok=True)
    label_frames([bare(known)], path, reference, IN_THIS_PROCESS)
    again: Any = read(path)
    per_atom = (again.get_potential_energy() - known.get_potential_energy()) / len(known)
    pair = [atoms.get_forces(apply_constraint=False) for atoms in (again, known)]
    forces = float(np.sqrt(((pair[0] - pair[1]) ** 2).sum(axis=1).max()))
    both = [atoms.calc.results["stress"] for atoms in (again, known) if "stress" in atoms.calc.results]
    stress = float(np.abs(_voigt(both[0]) - _voigt(both[1])).max()) if len(both) == 2 else 0.0
    if abs(per_atom) <= ENERGY and forces <= FORCES and stress <= STRESS:
        return
    if forces <= FORCES and stress <= STRESS:
        raise ValueError(
            f"energies of {reference.name} have another zero than those of the training: {per_atom:+.4g} eV per atom on a structure of it, "
            f"with the same forces; use the reference that labelled the training data, or shift its energies"
        )
    raise ValueError(
        f"{reference.name} did not label the training data: on one structure its forces differ by up to {forces:.3g} eV/Å, its energy "
        f"by {per_atom:+.3g} eV per atom and its stress by {stress:.3g} eV/Å³; use the method and the settings of the training data"
    )


def _voigt(stress: Any) -> np.ndarray:
    values = np.asarray(stress, dtype=np.float64)
    return full_3x3_to_voigt_6_stress(values) if values.shape == (3, 3) else values
