"""Molecules with properties, such as those of QM9: numbers in `atoms.info`, of which some may be missing; no forces."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from race_calc.data.dataset import Dataset, read_structures
from race_calc.data.files import shortened
from race_calc.data.structure import checked


def read_properties(path: str | Path, index: str | int | slice = ":", names: Sequence[str] = ()) -> Dataset:
    """Structures of any file that ASE reads, with the first of the properties `names` as energy: NaN where it is missing.

    Raises FileNotFoundError, and ValueError for a file that cannot be read, structures that cannot be evaluated, values that are no
    finite number, and a property that no structure has.
    """
    source = str(path) if index == ":" else f"{path} (index {index})"
    frames = read_structures(path, index)
    if not frames:
        raise ValueError(f"{source} holds no structures: give a file and an index with at least one")
    structures = []
    for i, atoms in enumerate(frames):
        plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=_with_results(atoms, names))
        try:
            checked(plain)
        except ValueError as error:
            raise ValueError(f"frame {i} of {source}: {error}") from error
        structures.append(plain)
    unknown = tuple(np.full((len(atoms), 3), np.nan) for atoms in structures)
    dataset = Dataset(tuple(structures), np.full(len(structures), np.nan), unknown, (None,) * len(structures))
    for name in names:
        if np.isnan(of_property(dataset, name, source).energy).all():
            found = sorted({str(key) for atoms in structures for key in atoms.info})
            raise ValueError(f"no structure of {source} has {name} in its info: they have {', '.join(found) or 'nothing'}")
    return of_property(dataset, names[0], source) if names else dataset


def of_property(dataset: Dataset, name: str, source: str = "the data set") -> Dataset:
    """The same structures with a property in place of the energy; NaN where it is missing. Raises ValueError for what is no number."""
    values = [_value(atoms.info.get(name), f"frame {i} of {source}: {name}") for i, atoms in enumerate(dataset.structures)]
    return replace(dataset, energy=np.array(values))


def _with_results(atoms: Atoms, names: Sequence[str]) -> dict[str, Any]:
    """`info`, and what ASE's reader took for results of a calculator."""
    results = {} if atoms.calc is None else atoms.calc.results
    return dict(atoms.info) | {name: results[name] for name in names if name in results}


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
