"""One structure in, the same structure with labels out."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator

from race_calc.data.structure import checked
from race_calc.label.given import Given
from race_calc.label.methods import Method, in_folder

ERROR = "label_error"  # info of a frame without labels: why
OLD = ("energy", "free_energy", "forces", "stress", ERROR)  # in info or arrays: readers would take them for labels


def label(atoms: Atoms, folder: Path, method: Method | Given) -> Atoms:
    """A copy of the structure with energy (eV), forces (eV/Å) and, in a periodic cell where the method has it, stress (eV/Å³, ASE sign).

    Nothing but the structure goes in: no constraint, no results, no density of a structure before. The energy is the free energy
    where the calculator tells it, whose gradient the forces are. `folder`: for files of the calculator. Info says what the labels
    are from, see `Method.provenance`.

    Raises ValueError for a structure that no method can label, and for results that are not finite; and what the calculator raises.
    """
    method.check(atoms)
    checked(atoms)
    calculator = method.calculator()
    before = getattr(calculator, "directory", None)
    asked = bare(atoms)
    asked.calc = in_folder(calculator, folder)
    try:
        return labelled(atoms, computed(asked), method.provenance())
    finally:
        if before is not None:
            calculator.directory = before  # the folder will be gone


def computed(atoms: Atoms) -> dict[str, Any]:
    """Energy (eV), forces (n, 3) (eV/Å) and, in a periodic cell where the calculator has it, stress (6,) (eV/Å³), from ``atoms.calc``.

    Raises ValueError for results that are not finite; and what the calculator raises.
    """
    results: dict[str, Any] = {}
    if atoms.pbc.any() and atoms.cell.rank == 3:  # first: who gives a stress gives the rest with it
        with suppress(PropertyNotImplementedError, NotImplementedError):
            results["stress"] = atoms.get_stress()
    results["forces"] = atoms.get_forces()
    energy = atoms.get_potential_energy()
    results["energy"] = float(atoms.calc.results.get("free_energy", energy))  # whose gradient the forces are
    for name, values in results.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} not finite (NaN or infinite)")
    return results


def bare(atoms: Atoms) -> Atoms:
    """A copy with what a method computes from: elements, positions, cell, initial charges and moments."""
    found = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    for name in ("initial_charges", "initial_magmoms"):  # many calculators start from them
        if atoms.has(name):
            found.set_array(name, atoms.get_array(name))
    return found


def labelled(atoms: Atoms, results: dict[str, Any], provenance: Mapping[str, str]) -> Atoms:
    """A copy of the structure, without constraints, with these results and where they are from, in place of what it had before."""
    found: Atoms = atoms.copy()
    found.set_constraint()
    for name in OLD:
        found.info.pop(name, None)
        found.arrays.pop(name, None)
    found.info |= provenance
    found.calc = SinglePointCalculator(found, **results)
    return found
