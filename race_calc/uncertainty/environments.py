"""Distances, bond angles and coordination numbers in the training, as histograms, and what a structure has beside them. NumPy only.

They are for the reader of a halt (`race_calc.md.explain`); what the monitor watches is `race_calc.uncertainty.known_distances`.

Two atoms are bonded where they are nearer than BOND times the sum of their covalent radii.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from race_calc.data.graph import Graph

BOND = 1.25  # times the sum of the covalent radii
RARE = 0.01
HOLE = 2  # empty bins between two values that are still one range
Counts = dict[tuple[int, ...], np.ndarray]


@dataclass(frozen=True)
class Kind:
    """What is counted: its name, the width of a bin and the unit, and how many elements name a histogram."""

    name: str
    width: float
    unit: str
    elements: int


KINDS = (Kind("distance", 0.02, "Å", 2), Kind("angle", 2.0, "°", 3), Kind("coordination", 1.0, "", 2))


@dataclass(frozen=True)
class Measured:
    """Values of one kind in a structure: the elements of each (n, k) as its histogram is named, value (n,), its atoms (n, k)."""

    elements: np.ndarray
    values: np.ndarray
    atoms: np.ndarray


@dataclass(frozen=True)
class Unknown:
    """A value that the training did not have; `known`: the range of it that is nearest, None where these elements never met.

    `atoms`: of a distance two, of an angle three with the centre in the middle, of a coordination the centre; `elements`: (z, z') of a
    coordination, z' being counted; `excess`: how far outside, in bins.
    """

    kind: Kind
    elements: tuple[int, ...]
    atoms: tuple[int, ...]
    value: float
    known: tuple[float, float] | None
    excess: float


@dataclass(frozen=True)
class Rare:
    """A bond length or angle that a small share of the training's passes or has, on the nearer side; atoms as in `Unknown`."""

    kind: Kind
    atoms: tuple[int, ...]
    value: float
    share: float


@dataclass(frozen=True, eq=False)
class Environments:
    """Histograms: name of a kind → elements → counts, bin k from k to k + 1 times the width. Distances are counted within `cutoff` (Å).

    Elements of a distance and the outer two of an angle ascend; a coordination is named by its centre and by what is counted.
    """

    counts: dict[str, Counts]
    cutoff: float

    def unknown(self, graph: "Graph", radii: np.ndarray) -> list[Unknown]:
        """Of a structure, the farthest outside first, kind by kind; `radii`: covalent ones, Å, by atomic number."""
        found, everything = [], measure(graph, radii, np.unique([*self.counts["coordination"]]))
        for kind in KINDS:
            measured, mine = everything[kind.name], list[Unknown]()
            for key in sorted({tuple(row) for row in measured.elements.tolist()}):
                here = (measured.elements == key).all(axis=1)
                mine += _outside(kind, key, ranges(kind, self.counts[kind.name].get(key)), measured.values[here], measured.atoms[here])
            found += sorted(mine, key=lambda one: -one.excess)
        return found

    def rare(self, graph: "Graph", radii: np.ndarray) -> list[Rare]:
        """Bond lengths and bond angles of a structure which few of the training pass, the rarest first."""
        everything, found = measure(graph, radii, np.unique([*self.counts["coordination"]])), []
        for kind in KINDS[:2]:
            measured = everything[kind.name]
            for key in sorted({tuple(row) for row in measured.elements.tolist()} & self.counts[kind.name].keys()):
                counts = self.counts[kind.name][key]
                if kind.elements == 2:
                    counts = counts[: int(BOND * radii[[*key]].sum() / kind.width)]
                here = (measured.elements == key).all(axis=1) & (measured.values < len(counts) * kind.width)
                if not counts.any() or not here.any():
                    continue
                below, bins = np.cumsum(counts), _bins(kind, measured.values[here])
                passed = np.minimum(below[bins], below[-1] - below[bins] + counts[bins]) / below[-1]
                rows = zip(measured.atoms[here].tolist(), measured.values[here].tolist(), passed.tolist())
                found += [Rare(kind, tuple(atoms), value, share) for atoms, value, share in rows if share < RARE]
        return sorted(found, key=lambda one: one.share)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types. A histogram is the number of its first bin and the counts from there."""
        return {"cutoff": self.cutoff} | {
            name: {
                "-".join(map(str, key)): [int(np.flatnonzero(row)[0]), *np.trim_zeros(row).tolist()] for key, row in sorted(rows.items())
            }
            for name, rows in self.counts.items()
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any] | None) -> "Environments | None":
        """None of None. Raises ValueError, KeyError or TypeError for what `to_dict` did not write."""
        if content is None:
            return None
        return cls({kind.name: dict(_read(kind, dict(content[kind.name]))) for kind in KINDS}, float(content["cutoff"]))


def fit_environments(graphs: Iterable["Graph"], cutoff: float, radii: np.ndarray) -> Environments:
    """Of all training structures, whose graphs have this cutoff (Å)."""
    counts: dict[str, Counts] = {kind.name: {} for kind in KINDS}
    graphs = list(graphs)
    elements = np.unique(np.concatenate([graph.numbers for graph in graphs]))
    for graph in graphs:
        measured = measure(graph, radii, elements)
        for kind in KINDS:
            names, values = measured[kind.name].elements, measured[kind.name].values
            for key in {tuple(row) for row in names.tolist()}:
                _add(counts[kind.name], key, np.bincount(_bins(kind, values[(names == key).all(axis=1)])))
    return Environments(counts, cutoff)


def ranges(kind: Kind, counts: np.ndarray | None) -> np.ndarray:
    """Begins and ends (K, 2) of the values that were counted; up to HOLE empty bins are no gap. Coordination numbers: first and last."""
    filled = np.flatnonzero(counts) if counts is not None else np.zeros(0, dtype=int)
    if not len(filled):
        return np.zeros((0, 2))
    holes = np.flatnonzero(np.diff(filled) > (1 if kind.name == "coordination" else HOLE + 1))
    last = 0 if kind.name == "coordination" else 1
    return np.stack([filled[[0, *(holes + 1)]], filled[[*holes, -1]] + last], axis=1) * kind.width


def measure(graph: "Graph", radii: np.ndarray, elements: np.ndarray) -> dict[str, Measured]:
    """Kind by kind, each distance and each angle once; neighbours of `elements` are counted."""
    numbers, vectors, lengths = graph.numbers, graph.edge_vectors, graph.edge_lengths
    first, other = graph.edge_index
    once = np.unique(graph.pair, return_index=True)[1]
    pair = graph.edge_index.T[once]
    found = {"distance": Measured(np.sort(numbers[pair], axis=1), lengths[once], pair)}
    bonded = np.flatnonzero(lengths < BOND * (radii[numbers[first]] + radii[numbers[other]]))
    found["angle"] = _angles(numbers, first[bonded], other[bonded], vectors[bonded] / np.maximum(lengths[bonded], 1e-9)[:, None])
    atom, counted = np.repeat(np.arange(len(numbers)), len(elements)), np.tile(elements, len(numbers))
    number = np.zeros((len(numbers), len(elements)))
    known = bonded[np.isin(numbers[other[bonded]], elements)]
    np.add.at(number, (first[known], np.searchsorted(elements, numbers[other[known]])), 1.0)
    found["coordination"] = Measured(np.stack([numbers[atom], counted], axis=1), number.ravel(), atom[:, None])
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


def _bins(kind: Kind, values: np.ndarray) -> np.ndarray:
    return np.floor(values / kind.width).astype(int)


def _outside(kind: Kind, key: tuple[int, ...], known: np.ndarray, values: np.ndarray, atoms: np.ndarray) -> Iterator[Unknown]:
    """Those farther than one bin from every range."""
    for value, where in zip(values.tolist(), atoms.tolist()):
        gaps = np.maximum(np.maximum(known[:, 0] - value, value - known[:, 1]), 0.0) / kind.width
        if not len(gaps):
            yield Unknown(kind, key, tuple(where), value, None, np.inf)
        elif gaps.min() >= 1.0:
            low, high = known[np.argmin(gaps)].tolist()
            yield Unknown(kind, key, tuple(where), value, (low, high), float(gaps.min()))


def _add(rows: Counts, key: tuple[int, ...], counts: np.ndarray) -> None:
    before = rows.get(key, np.zeros(0, dtype=int))
    rows[key] = np.pad(before, (0, max(len(counts) - len(before), 0)))
    rows[key][: len(counts)] += counts


def _read(kind: Kind, rows: dict[str, list[int]]) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    for name, (start, *counts) in rows.items():
        key = tuple(int(z) for z in name.split("-"))
        plain = all(type(value) is int and 0 <= value < 2**62 for value in (start, *counts)) and start < 100_000
        if len(key) != kind.elements or not plain or not sum(counts):
            raise ValueError(f"the {kind.name} histogram of {name} is no row of counts")
        yield key, np.concatenate([np.zeros(start, dtype=int), np.array(counts, dtype=int)])
