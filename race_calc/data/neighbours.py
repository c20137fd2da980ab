"""Neighbour pairs of a structure: a k-d tree of its atoms and of the periodic images around them, for every periodicity."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from scipy.spatial import cKDTree

from race_calc.data.structure import checked

SMALLEST_DISTANCE = 1e-3  # Å; closer pairs have no direction and no physical meaning
MOST_PAIRS = 12_000_000  # directed; the search and its arrays then stay below 2 GiB
MOST_IMAGES = 4_000_000  # of atoms, those in the cell included; the same
FEW_PAIRS = 100_000  # so many may be as dense as they are
DENSEST = 1.0  # atoms per Å³, six times diamond
SAMPLE = 2000  # atoms whose neighbours are counted before a search
Pairs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # centre (E,), neighbour (E,), shifts (E, 3), number of the pair (E,)


@dataclass(frozen=True)
class Images:
    """Atoms wrapped along the periodic directions, and all images that may be within the cutoff of one of them.

    ========= ========== ==== ======================================================
    field     shape      unit meaning
    ========= ========== ==== ======================================================
    home      (N, 3)     Å    the atoms, wrapped
    cells     (N, 3)          integer cell that each atom came from
    positions (G, 3)     Å    of the images
    atom      (G,)            atom that each is an image of
    shifts    (G, 3)          integer cell shift from the wrapped atom; all zero: the atom
    ========= ========== ==== ======================================================
    """

    home: np.ndarray
    cells: np.ndarray
    positions: np.ndarray
    atom: np.ndarray
    shifts: np.ndarray


def neighbour_pairs(atoms: Atoms, cutoff: float) -> Pairs:
    """All directed pairs within `cutoff` (Å), periodic images included, self pairs excluded.

    Returns centre (E,), neighbour (E,) and integer cell shifts (E, 3), sorted by all of them, and the undirected pair (E,), which
    i ← j and j ← i share. Raises ValueError as `race_calc.data.structure.checked` does, when two atoms are closer than 0.001 Å,
    and when the pairs or the periodic images are too many: more than 12 million pairs or 4 million images (2 GiB), or more than 100,000
    pairs in a structure of over 1 atom per Å³.
    """
    atoms = checked(atoms)
    images = _images(atoms, cutoff)
    tree = cKDTree(images.positions)
    _check_number(images, tree, cutoff)
    found = cKDTree(images.home).sparse_distance_matrix(tree, cutoff, output_type="ndarray")
    one, image, distance = found["i"], found["j"], found["v"]
    once = _one_direction(one, images.atom[image], images.shifts[image])
    one, image, distance = one[once], image[once], distance[once]
    other = images.atom[image]
    check_distances(atoms, one, other, distance)
    shifts = images.shifts[image] + images.cells[one] - images.cells[other]
    centre, neighbour = np.concatenate([one, other]), np.concatenate([other, one])
    shifts = np.concatenate([shifts, -shifts])
    order = np.lexsort((*shifts.T, neighbour, centre))  # told by the structure, not by how it was searched
    pair = np.tile(np.arange(len(one)), 2)[order]
    numbers = np.empty(len(one), dtype=np.int64)
    numbers[np.argsort(first_of_pairs(pair))] = np.arange(len(one))
    return centre[order], neighbour[order], shifts[order], numbers[pair]


def _images(atoms: Atoms, cutoff: float) -> Images:
    """Raises ValueError where they are more than MOST_IMAGES."""
    axes = np.flatnonzero(atoms.pbc)
    lattice = atoms.cell.array[axes]  # (k, 3)
    dual = np.linalg.pinv(lattice)  # (3, k)
    fractions = atoms.positions @ dual  # (N, k)
    cells = np.floor(fractions)
    home = atoms.positions - cells @ lattice
    fractions -= cells
    reach = cutoff * np.linalg.norm(dual, axis=0)  # (k,) in cells
    expected = len(atoms) * np.prod(1 + 2 * reach)
    if expected > MOST_IMAGES:
        raise ValueError(
            f"the periodic cell is as thin as {cutoff / reach.max():.2g} Å: {len(atoms)} atoms have {expected:.1e} images within "
            f"{cutoff} Å (the limit is {MOST_IMAGES:.0e}): the cell has collapsed, has another unit, or needs ase.build.niggli_reduce"
        )
    atom, shifts = np.arange(len(atoms)), np.zeros((len(atoms), len(axes)), dtype=np.int64)
    for k, width in enumerate(reach + 1e-9):  # rounding may not lose an image
        low, high = fractions[:, k].min() - width, fractions[:, k].max() + width
        steps = np.arange(np.floor(low - 1), np.ceil(high + 1))
        at = fractions[atom, k, None] + steps
        row, column = np.nonzero((at >= low) & (at <= high))
        atom, shifts = atom[row], shifts[row]
        shifts[:, k] = steps[column]
    positions = home[atom] + shifts @ lattice
    return Images(home, _in_three(cells.astype(np.int64), axes), positions, atom, _in_three(shifts, axes))


def _in_three(columns: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """(n, k) of the periodic directions as (n, 3), zero along the others."""
    full = np.zeros((len(columns), 3), dtype=np.int64)
    full[:, axes] = columns
    return full


def _check_number(images: Images, tree: cKDTree, cutoff: float) -> None:
    """Raise ValueError where a search would find too many pairs; counted from some of the atoms where they are many."""
    n = len(images.home)
    if n * len(images.positions) <= FEW_PAIRS:
        return
    some = images.home if n <= SAMPLE else images.home[np.random.default_rng(0).choice(n, SAMPLE, replace=False)]
    neighbours = float(cKDTree(some).count_neighbors(tree, cutoff)) / len(some) - 1
    pairs, densest = n * neighbours, DENSEST * 4 / 3 * np.pi * cutoff**3
    if pairs > FEW_PAIRS and neighbours > densest:
        raise ValueError(
            f"{n} atoms have about {pairs:.1e} pairs within {cutoff} Å, {neighbours:.0f} neighbours each: more than {DENSEST:g} atom "
            "per Å³; the structure or its cell has collapsed or has another unit; go back to the last good frame"
        )
    if pairs > MOST_PAIRS:
        raise ValueError(
            f"{n} atoms have about {pairs:.1e} pairs within {cutoff} Å, {neighbours:.0f} neighbours each; at most {MOST_PAIRS:.0e} fit in "
            "2 GiB of memory: use a smaller structure or a model with a shorter cutoff"
        )


def _one_direction(one: np.ndarray, other: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """(P,) bool: of i ← j and j ← i the one whose first of (shift, j - i) that is not zero is positive; no atom with itself."""
    keys = np.concatenate([shifts, (other - one)[:, None]], axis=1)
    return np.asarray(np.sign(keys) @ np.array([8, 4, 2, 1]) > 0)  # 8 > 4 + 2 + 1


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
        symbols = [chemical_symbols[atoms.numbers[k]] for k in (i, j)]
        raise ValueError(
            f"atoms {i} ({symbols[0]}) and {j} ({symbols[1]}) lie on one place "
            f"(distance {distance[close[0]]:.1e} Å): remove the duplicate or separate them"
        )
