"""Neighbour pairs of a structure (vesin), and the checks that a structure can be evaluated at all."""

import numpy as np
from ase import Atoms

SMALLEST_DISTANCE = 1e-3  # Å; closer pairs have no direction and no physical meaning
LARGEST_EXTENT = 1e5  # Å along directions that are not periodic; vesin counts its bins in 32 bits
MOST_PAIRS = 1e8
BLOWN_UP = "the run has blown up; go back to the last good frame"
Pairs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # centre (E,), neighbour (E,), shifts (E, 3), number of the pair (E,)


def check_structure(atoms: Atoms) -> None:
    """Raise ValueError, with what to do, for a structure that no potential can evaluate."""
    if len(atoms) == 0:
        raise ValueError("the structure has no atoms: give at least one atom")
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(bad):
        raise ValueError(
            f"positions of atom {bad[0]} are not finite ({atoms.positions[bad[0]]}), {len(bad)} atoms in all: "
            "the run has blown up or the file is damaged; go back to the last good frame, use a shorter time step"
        )
    cell = atoms.cell.array
    if not np.isfinite(cell).all():
        raise ValueError(f"the cell is not finite: {BLOWN_UP}")
    for axis in np.flatnonzero(atoms.pbc):
        if np.linalg.norm(cell[axis]) < 1e-6:
            raise ValueError(f"pbc is set along cell vector {axis} but that vector is zero: set the cell, or atoms.pbc = False")
    if atoms.pbc.any() and np.linalg.svd(cell[atoms.pbc], compute_uv=False)[-1] < 1e-6:
        raise ValueError("the periodic cell vectors are linearly dependent: mend the cell")
    if not atoms.pbc.all():
        _check_extent(atoms)


def _check_extent(atoms: Atoms) -> None:
    """Raise ValueError when atoms have flown apart along a direction that is not periodic."""
    periodic = np.zeros((3, 3))
    periodic[: atoms.pbc.sum()] = atoms.cell.array[atoms.pbc]
    free = np.eye(3) - np.linalg.pinv(periodic) @ periodic  # projector onto the directions that are not periodic
    far = np.abs((atoms.positions - atoms.positions[0]) @ free).max(axis=1)
    if far.max() > LARGEST_EXTENT:
        raise ValueError(f"atoms 0 and {far.argmax()} are {far.max():.3g} Å apart: {BLOWN_UP}, use a shorter time step")


def neighbour_pairs(atoms: Atoms, cutoff: float) -> Pairs:
    """All directed pairs within `cutoff` (Å), periodic images included, self pairs excluded.

    Returns centre (E,), neighbour (E,) and integer cell shifts (E, 3), sorted by centre, and the number of the undirected pair (E,),
    which i ← j and j ← i share. Raises ValueError when two atoms are closer than 0.001 Å, or when the pairs are too many to hold.
    """
    import vesin  # imports torch where it is installed, which `evaluate` must not

    cell = atoms.cell.complete().array if atoms.pbc.any() else np.zeros((3, 3))
    if atoms.pbc.all():
        volume = atoms.cell.volume
        expected = len(atoms) ** 2 * 4 / 3 * np.pi * cutoff**3 / volume
        if expected > MOST_PAIRS:
            raise ValueError(
                f"{len(atoms)} atoms in a cell of {volume:.3g} Å³ have about {expected:.1g} pairs within "
                f"{cutoff} Å: the cell has collapsed or has another unit; go back to the last good frame"
            )
    pairs = vesin.NeighborList(cutoff=float(cutoff), full_list=False, sorted=True)
    one, other, shifts, distance = pairs.compute(points=atoms.positions, box=cell, periodic=np.asarray(atoms.pbc), quantities="ijSd")
    check_distances(atoms, one, other, distance)
    centre, neighbour = np.concatenate([one, other]), np.concatenate([other, one])
    order = np.argsort(centre, kind="stable")
    shifts = np.concatenate([shifts, -shifts])[order]
    pair = np.tile(np.arange(len(one)), 2)[order]
    return centre[order].astype(np.int64), neighbour[order].astype(np.int64), shifts.astype(np.int64), pair


def first_of_pairs(pair: np.ndarray) -> np.ndarray:
    """(E/2,): one of the two directed pairs (E,) of every undirected pair, the first in their order."""
    first = np.empty(len(pair) // 2, dtype=np.int64)
    first[pair[::-1]] = np.arange(len(pair))[::-1]
    return first


def check_distances(atoms: Atoms, one: np.ndarray, other: np.ndarray, distance: np.ndarray) -> None:
    """Raise ValueError when two atoms of a pair (E,) lie on one place."""
    close = np.flatnonzero(distance < SMALLEST_DISTANCE)
    if len(close):
        i, j = int(one[close[0]]), int(other[close[0]])
        raise ValueError(
            f"atoms {i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]}) lie on one place "
            f"(distance {distance[close[0]]:.1e} Å): remove the duplicate or separate them"
        )
