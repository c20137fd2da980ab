"""Molecules with properties, such as those of QM9: numbers in `atoms.info`, of which some may be missing; no forces."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from race_calc.data.dataset import Dataset, read_structures
from race_calc.data.files import shortened
from race_calc.data.label_names import PREDICTED
from race_calc.data.structure import checked


def read_properties(path: str | Path, index: str | int | slice = ":", names: Sequence[str] = ()) -> Dataset:
    """Structures of any file that ASE reads, with the first of the properties `names` as energy: NaN where it is missing.

    Raises FileNotFoundError, and ValueError for a file that cannot be read, structures that cannot be evaluated or repeat, predictions,
    and values that are no finite number.
    """
    source = str(path) if index == ":" else f"{path} (index {index})"
    frames = read_structures(path, index)
    if not frames:
        raise ValueError(f"{source} holds no structures: give a file and an index with at least one")
    structures = []
    for i, atoms in enumerate(frames):
        if atoms.info.get("labels") == PREDICTED:
            raise ValueError(f"the properties of frame {i} of {source} are predictions (info labels={PREDICTED}): nothing to learn")
        plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=atoms.info)
        try:
            check_molecule(plain)
        except ValueError as error:
            raise ValueError(f"frame {i} of {source}: {error}") from error
        structures.append(plain)
    unknown = tuple(np.full((len(atoms), 3), np.nan) for atoms in structures)
    dataset = Dataset(tuple(structures), np.full(len(structures), np.nan), unknown, (None,) * len(structures))
    for name in reversed(names):  # all are checked; the first is given
        dataset = of_property(dataset, name, source)
    return dataset


def check_molecule(atoms: Atoms) -> Atoms:
    """The structure. Raises ValueError for one that cannot be evaluated, or repeats: a dipole depends on how its atoms are wrapped."""
    if atoms.pbc.any():
        raise ValueError("the structure is periodic: properties are those of molecules, switch pbc off where it is one")
    return checked(atoms)


def of_property(dataset: Dataset, name: str, source: str = "the data set") -> Dataset:
    """The same structures with a property in place of the energy; NaN where it is missing. Raises ValueError for what is no number."""
    values = [_value(atoms.info.get(name), f"frame {i} of {source}: {name}") for i, atoms in enumerate(dataset.structures)]
    return replace(dataset, energy=np.array(values))


def _value(value: Any, what: str) -> float:
    if value is None:
        return float("nan")
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("inf")
    if not np.isfinite(number):
        raise ValueError(f"{what} is {shortened(str(value))}, not a finite number: correct it, or leave the key out where it is not known")
    return number
