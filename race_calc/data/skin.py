"""A neighbour list with a skin: pairs are searched anew only when a pair could have come within the cutoff unseen."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from race_calc.data.neighbours import Pairs, check_distances, first_of_pairs, neighbour_pairs

SKIN = 0.5  # Å


@dataclass(frozen=True)
class SkinList:
    """All directed pairs within `reach` of a reference structure.

    =========== ======= ==== ==================================================
    field       shape   unit meaning
    =========== ======= ==== ==================================================
    positions   (N, 3)  Å    of the reference
    cell        (3, 3)  Å    of the reference, as in ASE
    pbc         (3,)         of the reference
    reach               Å    cutoff + skin
    centre      (E,)         sorted
    neighbour   (E,)
    shifts      (E, 3)       integer cell shifts
    pair        (E,)         number of the undirected pair
    =========== ======= ==== ==================================================
    """

    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    reach: float
    centre: np.ndarray
    neighbour: np.ndarray
    shifts: np.ndarray
    pair: np.ndarray


def updated(last: SkinList | None, atoms: Atoms, cutoff: float) -> SkinList:
    """`last` where it still holds every pair of `atoms`, checked, within `cutoff`, else a new list. Raises as `neighbour_pairs` does."""
    if last is not None and holds(last, atoms, cutoff):
        return last
    pairs = neighbour_pairs(atoms, cutoff + SKIN)
    return SkinList(atoms.positions.copy(), atoms.cell.array.copy(), np.array(atoms.pbc), cutoff + SKIN, *pairs)


def holds(skin: SkinList, atoms: Atoms, cutoff: float) -> bool:
    """Can no pair outside of the list have come within `cutoff`?

    With r' = r F + d_j - d_i, F the deformation of the cell and d the rest of the displacements,
    |r'| ≥ σ_min(F) |r| - 2 max |d - mean d|, and |r| > reach for every pair that is not in the list. An atom that
    was wrapped into the cell has moved far: the list is made anew.
    """
    if len(atoms) != len(skin.positions) or (np.array(atoms.pbc) != skin.pbc).any():
        return False
    cell = atoms.cell.array
    deformation = np.eye(3)
    if skin.pbc.any() and (cell != skin.cell).any():
        if not skin.pbc.all():
            return False
        deformation = np.linalg.solve(skin.cell, cell)
    rest = atoms.positions - skin.positions @ deformation
    moved = np.linalg.norm(rest - rest.mean(axis=0), axis=1).max()
    shrunk = np.linalg.svd(deformation, compute_uv=False)[-1]
    return bool(shrunk * skin.reach - 2 * moved > cutoff)


def pairs_within(skin: SkinList, atoms: Atoms, cutoff: float) -> Pairs:
    """The pairs of the list that are within `cutoff` now, as from `neighbour_pairs`."""
    cell = atoms.cell.array if skin.pbc.any() else np.zeros((3, 3))
    vectors = atoms.positions[skin.neighbour] - atoms.positions[skin.centre] + skin.shifts @ cell
    distance = np.linalg.norm(vectors, axis=1)
    inside = (distance[first_of_pairs(skin.pair)] < cutoff)[skin.pair]  # decided once for both directions of a pair
    centre, neighbour, shifts, pair = (x[inside] for x in (skin.centre, skin.neighbour, skin.shifts, skin.pair))
    check_distances(atoms, centre, neighbour, distance[inside])
    kept = np.zeros(len(skin.pair) // 2, dtype=bool)
    kept[pair] = True
    return centre, neighbour, shifts, (np.cumsum(kept) - 1)[pair]
