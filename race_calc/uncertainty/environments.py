"""What the training had of distances, bond angles and coordination numbers, as histograms, and what a structure has beside it. NumPy only.

They are for the reader of a halt (`race_calc.md.explain`); what the monitor watches is `race_calc.uncertainty.known_distances`.

Values without more than `Kind.hole` empty bins between them are one range. A value that is a bin or more outside of every range is
unknown. Any other is passed by the values of its range (whole numbers: by all) from there to the nearer end. Their share, times the values
of these elements in the structure, is how many as far out are expected in it. (The end of a range at the cutoff is none: there neighbours
end.)
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from race_calc.uncertainty.geometry import COORDINATION, DISTANCE, KINDS, Elements, Kind, Measured, measure

if TYPE_CHECKING:
    from race_calc.data.graph import Graph

RARE = 0.01  # expected in a structure; of the training structures of 3BPA one in five has one such value, at 600 K nine in ten
MOST_BINS = 100_000
Counts = dict[Elements, np.ndarray]


@dataclass(frozen=True)
class Unusual:
    """A value that the training did not have, or hardly.

    `atoms` as in `Measured`; `known`: the nearest range of the training, None where it had none of these elements; `excess`: how many bins
    outside of it (unknown), 0 inside; `expected`: of values as far out, in a structure like this (0 where unknown).
    """

    kind: Kind
    elements: Elements
    atoms: tuple[int, ...]
    value: float
    known: tuple[float, float] | None
    excess: float
    expected: float


@dataclass(frozen=True)
class Compared:
    """A structure beside the training: what was unknown to it, kind by kind with the farthest first; what was rare in it, the rarest first;
    and elements that it did not have."""

    unknown: tuple[Unusual, ...]
    rare: tuple[Unusual, ...]
    new_elements: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Environments:
    """Histograms: name of a kind → elements → counts, bin k from k to k + 1 times the width; of distances below `cutoff` (Å)."""

    counts: dict[str, Counts]
    cutoff: float

    @property
    def elements(self) -> np.ndarray:
        """Atomic numbers, ascending."""
        return np.unique([z for z, _ in self.counts[COORDINATION.name]])

    def compare(self, graph: "Graph", radii: np.ndarray) -> Compared:
        """`graph`: of a structure, with this cutoff; radii: covalent ones, Å, by atomic number."""
        measured = measure(graph, radii, self.elements)
        unknown, rare = list[Unusual](), list[Unusual]()
        for kind in KINDS:
            found = [one for key, rows in measured[kind.name].groups() for one in self._unusual(kind, key, measured[kind.name], rows)]
            unknown += sorted((one for one in found if one.excess), key=lambda one: -one.excess)
            rare += [one for one in found if not one.excess]
        new = np.setdiff1d(graph.numbers, self.elements).tolist()
        return Compared(tuple(unknown), tuple(sorted(rare, key=lambda one: one.expected)), tuple(new))

    def _unusual(self, kind: Kind, key: Elements, measured: Measured, rows: np.ndarray) -> list[Unusual]:
        """Of the values of one kind and these elements."""
        values, atoms = measured.values[rows], measured.atoms[rows]
        counts = self.counts[kind.name].get(key)
        if counts is None:
            return [Unusual(kind, key, tuple(where), value, None, np.inf, 0.0) for value, where in zip(values.tolist(), atoms.tolist())]
        own, gaps = _nearest(ranges(kind, counts), values)
        excess = np.where(gaps < kind.width, 0.0, gaps / kind.width)
        expected = np.where(excess > 0, 0.0, _passed(kind, counts, own, values, self.cutoff) / counts.sum() * len(values))
        return [
            Unusual(kind, key, tuple(atoms[i].tolist()), float(values[i]), tuple(own[i].tolist()), float(excess[i]), float(expected[i]))
            for i in np.flatnonzero(expected < RARE)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types. A histogram is a text: the number of its first bin and the counts from there."""
        return {"cutoff": self.cutoff} | {
            name: {"-".join(map(str, key)): _text(row) for key, row in sorted(rows.items())} for name, rows in self.counts.items()
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any] | None, cutoff: float) -> "Environments | None":
        """Of a model with this cutoff; None of None. Raises ValueError, KeyError or TypeError for what `to_dict` did not write."""
        if content is None:
            return None
        if content["cutoff"] != cutoff:
            raise ValueError(f"environments have the cutoff {content['cutoff']}, the model {cutoff}")
        found = {kind.name: dict(_read(kind, name, row) for name, row in dict(content[kind.name]).items()) for kind in KINDS}
        return cls(found, cutoff)


def fit_environments(graphs: Iterable["Graph"], elements: np.ndarray, cutoff: float, radii: np.ndarray) -> Environments:
    """Of all training structures, whose graphs have this cutoff (Å), one or several in each; elements: theirs, ascending atomic numbers."""
    found = {kind.name: np.zeros((0, kind.elements + 2), dtype=int) for kind in KINDS}  # rows of elements, bin, count
    for graph in graphs:
        measured = measure(graph, radii, elements)
        for kind in KINDS:
            bins = np.floor(measured[kind.name].values / kind.width).astype(int)
            rows = np.column_stack([measured[kind.name].elements, bins, np.ones(len(bins), dtype=int)])
            found[kind.name] = _added(np.concatenate([found[kind.name], rows]))
    return Environments({name: _histograms(rows) for name, rows in found.items()}, cutoff)


def ranges(kind: Kind, counts: np.ndarray | None) -> np.ndarray:
    """Begins and ends (K, 2) of the values that were counted, none of None; of whole numbers the smallest and the largest."""
    if counts is None:
        return np.zeros((0, 2))
    filled = np.flatnonzero(counts)
    holes = np.flatnonzero(np.diff(filled) > kind.hole + 1)
    return np.stack([filled[[0, *(holes + 1)]], filled[[*holes, -1]] + (not kind.whole)], axis=1) * kind.width


def _added(rows: np.ndarray) -> np.ndarray:
    """Counts, in the last column, of equal rows added up."""
    unique, place = np.unique(rows[:, :-1], axis=0, return_inverse=True)
    return np.column_stack([unique, np.bincount(place.ravel(), weights=rows[:, -1], minlength=len(unique)).astype(int)])


def _histograms(rows: np.ndarray) -> Counts:
    found: Counts = {}
    for key, own in Measured(rows[:, :-2], rows[:, -1], rows[:, -2]).groups():
        found[key] = np.bincount(rows[own, -2], weights=rows[own, -1]).astype(int)
    return found


def _nearest(known: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The range (n, 2) that each value is in, or nearest to, and how far it is from it (n,); ranges ascend."""
    after = np.searchsorted(known[:, 0], values, side="right")
    candidates = np.clip(np.stack([after - 1, after]), 0, len(known) - 1)
    gaps = np.maximum(np.maximum(known[candidates, 0] - values, values - known[candidates, 1]), 0.0)
    nearer = np.argmin(gaps, axis=0), np.arange(len(values))
    return known[candidates[nearer]], gaps[nearer]


def _passed(kind: Kind, counts: np.ndarray, own: np.ndarray, values: np.ndarray, cutoff: float) -> np.ndarray:
    """How many of the training are as far out in the same range (n, 2), on the nearer side; of whole numbers in all."""
    below = np.concatenate([[0], np.cumsum(counts)])
    start, end = np.tile([[0], [len(counts)]], len(values)) if kind.whole else (own / kind.width).round().astype(int).T
    bins = np.clip(np.floor(values / kind.width).astype(int), start, end - 1)
    beyond = (values < own[:, 0]) | (values > own[:, 1])  # within a bin of the range: nothing passes it
    lower, upper = below[bins + 1] - below[start], below[end] - below[bins]
    if kind is DISTANCE:
        upper = np.where(own[:, 1] > cutoff - (kind.hole + 1) * kind.width, below[-1], upper)
    return np.where(beyond, 0, np.minimum(lower, upper))


def _text(row: np.ndarray) -> str:
    return " ".join(map(str, [int(np.flatnonzero(row)[0]), *np.trim_zeros(row).tolist()]))


def _read(kind: Kind, name: str, row: str) -> tuple[Elements, np.ndarray]:
    if not isinstance(row, str):
        raise ValueError(f"the {kind.name} histogram of {name} is {type(row).__name__}, no text")
    key, (start, *counts) = tuple(int(z) for z in name.split("-")), (int(word) for word in row.split())
    sound = len(key) == kind.elements and 0 <= start < MOST_BINS and len(counts) < MOST_BINS and all(0 <= n < 2**62 for n in counts)
    if not (sound and counts and counts[0] and counts[-1]):
        raise ValueError(f"the {kind.name} histogram of {name} is no row of counts")
    return key, np.concatenate([np.zeros(start, dtype=int), np.array(counts, dtype=int)])
