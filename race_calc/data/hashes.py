"""What tells structures and data sets from others."""

import hashlib

import numpy as np
from ase import Atoms

from race_calc.data.dataset import Dataset


def structure_hashes(dataset: Dataset) -> tuple[str, ...]:
    """sha256 (hex) of each structure.

    Hashed in this order, little endian: the number of atoms and the atomic numbers (int64), pbc (3 bytes), then as float64 positions,
    cell rows, energy, forces and, where present, the 3 x 3 stress. -0.0 counts as 0.0. ``info`` is left out.
    """
    hashes = []
    for atoms, energy, forces, stress in zip(dataset.structures, dataset.energy, dataset.forces, dataset.stress):
        digest = _of_atoms(atoms)
        for array in (atoms.positions, atoms.cell.array, energy, forces, *([] if stress is None else [stress])):
            digest.update((np.asarray(array, dtype="<f8") + 0.0).tobytes())
        hashes.append(digest.hexdigest())
    return tuple(hashes)


def geometry_hashes(dataset: Dataset) -> tuple[str, ...]:
    """16 hex digits for each structure, the same for the same atoms at the same places, whatever their labels.

    The start of the sha256 of atomic numbers, pbc, positions rounded to 1e-4 Å and, where periodic, the rounded cell. Moved,
    turned or renumbered structures count as others.
    """
    return tuple(map(geometry_hash, dataset.structures))


def geometry_hash(atoms: Atoms) -> str:
    """Of one structure; of eight decimals, which extended XYZ keeps: it stays the same when the structure is written and read."""
    cell = atoms.cell.array if atoms.pbc.any() else np.zeros((3, 3))
    digest = _of_atoms(atoms)
    digest.update(np.rint(1e4 * np.round(np.concatenate([atoms.positions, cell]), 8)).astype("<i8").tobytes())
    return digest.hexdigest()[:16]


def data_hash(dataset: Dataset) -> str:
    """sha256 (hex) of the joined :func:`structure_hashes`; it depends on the order."""
    return hashlib.sha256("".join(structure_hashes(dataset)).encode("ascii")).hexdigest()


def _of_atoms(atoms: Atoms) -> "hashlib._Hash":
    return hashlib.sha256(np.array([len(atoms), *atoms.numbers], dtype="<i8").tobytes() + np.asarray(atoms.pbc, dtype="u1").tobytes())
