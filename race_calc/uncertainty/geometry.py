"""Distances, bond angles and coordination numbers of a structure, by the elements that they are of. NumPy only.

Two atoms are bonded where they are nearer than BOND times the sum of their covalent radii.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from race_calc.data.graph import Graph

BOND = 1.25  # times the sum of the covalent radii
Elements = tuple[int, ...]  # of a distance and the outer two of an angle ascending; a coordination's centre, and what is counted


@dataclass(frozen=True)
class Kind:
    """What is measured: its name, the width of a bin of its histogram with the unit, of how many elements it is, and how many empty bins
    lie between two values of one range at most; `whole`: values are whole numbers, the bins are theirs."""

    name: str
    width: float
    unit: str
    elements: int
    hole: int
    whole: bool = False


DISTANCE, ANGLE = Kind("distance", 0.02, "Å", 2, hole=2), Kind("angle", 2.0, "°", 3, hole=2)
COORDINATION = Kind("coordination", 1.0, "", 2, hole=0, whole=True)
KINDS = (DISTANCE, ANGLE, COORDINATION)


@dataclass(frozen=True)
class Measured:
    """n values of one kind: elements (n, k), values (n,), atoms (n, …): of a distance two, of an angle three with the centre in the middle,
    of a coordination the centre."""

    elements: np.ndarray
    values: np.ndarray
    atoms: np.ndarray

    def groups(self) -> Iterator[tuple[Elements, np.ndarray]]:
        """Elements → rows of these, in the order of the elements."""
        if not len(self.values):
            return
        order = np.lexsort(self.elements.T[::-1])
        ordered = self.elements[order]
        ends = np.flatnonzero((ordered[1:] != ordered[:-1]).any(axis=1)) + 1
        for rows in np.split(order, ends):
            yield tuple(self.elements[rows[0]].tolist()), rows


def measure(graph: "Graph", radii: np.ndarray, elements: np.ndarray) -> dict[str, Measured]:
    """Kind by kind, each distance and angle once; of what has other elements than `elements` nothing. radii: covalent ones, Å, by atomic
    number."""
    numbers, lengths = graph.numbers, graph.edge_lengths
    known = np.isin(numbers, elements)
    first, other = graph.edge_index
    both = known[first] & known[other]
    once = np.unique(graph.pair, return_index=True)[1]
    pair = graph.edge_index.T[once[both[once]]]
    found = {DISTANCE.name: Measured(np.sort(numbers[pair], axis=1), lengths[once[both[once]]], pair)}
    bonded = np.flatnonzero(both & (lengths < BOND * (radii[numbers[first]] + radii[numbers[other]])))
    units = graph.edge_vectors[bonded] / np.maximum(lengths[bonded], 1e-9)[:, None]
    found[ANGLE.name] = _angles(numbers, first[bonded], other[bonded], units)
    own = np.flatnonzero(known)
    number = np.zeros((len(numbers), len(elements)))
    np.add.at(number, (first[bonded], np.searchsorted(elements, numbers[other[bonded]])), 1.0)
    centre, counted = np.repeat(own, len(elements)), np.tile(elements, len(own))
    found[COORDINATION.name] = Measured(np.stack([numbers[centre], counted], axis=1), number[own].ravel(), centre[:, None])
    return found


def _angles(numbers: np.ndarray, first: np.ndarray, other: np.ndarray, units: np.ndarray) -> Measured:
    """Between bonds, which are sorted by their centre."""
    rows, apart = [np.zeros((0, 2), dtype=int)], 1
    while len(here := np.flatnonzero(first[apart:] == first[:-apart])):
        rows.append(np.stack([here, here + apart], axis=1))
        apart += 1
    one, two = np.concatenate(rows).T
    degrees = np.degrees(np.arccos(np.clip(np.sum(units[one] * units[two], axis=1), -1.0, 1.0)))
    swap = numbers[other[one]] > numbers[other[two]]
    one, two = np.where(swap, two, one), np.where(swap, one, two)
    atoms = np.stack([other[one], first[one], other[two]], axis=1)
    return Measured(numbers[atoms], degrees, atoms)
