"""Which distances between atoms the training knows, and how far an atom's are from them. NumPy only.

============ ========================= ==================================================================================
symbol       variable                  meaning
============ ========================= ==================================================================================
I_zz'        intervals (K, 2)          distances of atoms of elements z and z' in the training: the first to the last of each run
                                       without a hole wider than HOLE; and all beyond the cutoff
g(r)                                   how far r is from I_zz', Å; 0 inside
R_zz'        bonds                     sum of the covalent radii, Å
w(r)                                   min(1, R_zz'/r)³: the energy changes less with a distance, the longer it is; 1 for
                                       elements that never met in the training, of which I_zz' begins at the cutoff
gap          `KnownDistances.__call__` max over the neighbours j of an atom i of w(r_ij) g(r_ij), Å
============ ========================= ==================================================================================

Members that learned from the same bonds are wrong in the same way where a bond is shorter or longer than any of these, and their spread
does not tell: `docs/thresholds.md` has what it adds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from race_calc.data.graph import Graph

HOLE = 0.01  # Å; holes between kinds of distances are much wider, smaller ones are chance
DIGITS = 1e-4  # Å, to which the ends of intervals are stored, outward
POWER = 3  # 2 and 4 find about as many
APART = 1e3  # Å between the scales of pairs of elements: more than any cutoff


@dataclass(frozen=True, eq=False)
class KnownDistances:
    """intervals: (z, z') with z ≤ z' → (K, 2) Å, ascending, at most the cutoff (Å); bonds: for the same pairs the length of a bond, Å."""

    intervals: dict[tuple[int, int], np.ndarray]
    bonds: dict[tuple[int, int], float]
    cutoff: float

    def __call__(self, graph: "Graph") -> np.ndarray:
        """The gap (N,) of the atoms, Å."""
        found, distance = np.zeros(graph.n_atoms), graph.edge_lengths
        if not distance.size:
            return found
        first, other = graph.numbers[graph.edge_index]
        place = np.searchsorted(self._pairs, _key(first, other))
        known = place < len(self._pairs)
        known[known] = self._pairs[place[known]] == _key(first, other)[known]
        row = np.where(known, place, len(self._pairs))
        x = distance + APART * row
        after = np.searchsorted(self._bounds, x, side="right")
        gap = np.where(after % 2, 0.0, np.minimum(x - self._bounds[after - 1], self._bounds[after] - x))
        gap *= np.minimum(1.0, self._lengths[row] / np.maximum(distance, 1e-9)) ** POWER
        np.maximum.at(found, graph.edge_index[0], gap)
        return found

    @cached_property
    def _pairs(self) -> np.ndarray:
        return np.array([_key(*pair) for pair in sorted(self.intervals)], dtype=np.int64)

    @cached_property
    def _bounds(self) -> np.ndarray:
        """Begins and ends of all intervals, pair after pair and then for one that is not known, on one axis."""
        rows = [self.intervals[pair].ravel() for pair in sorted(self.intervals)] + [np.zeros(0)]
        ends = [[*(row + APART * k), self.cutoff + APART * k, APART * (k + 0.5)] for k, row in enumerate(rows)]
        return np.array([-np.inf, -np.inf, *(value for each in ends for value in each), np.inf])

    @cached_property
    def _lengths(self) -> np.ndarray:
        return np.array([*(self.bonds[pair] for pair in sorted(self.intervals)), self.cutoff])  # what is not known counts fully

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        pairs = {f"{a}-{b}": {"bond": self.bonds[a, b], "intervals": rows.tolist()} for (a, b), rows in sorted(self.intervals.items())}
        return {"cutoff": self.cutoff, "pairs": pairs}

    @classmethod
    def from_dict(cls, content: dict[str, Any] | None, cutoff: float) -> "KnownDistances | None":
        """Of a model with this cutoff; None of None. Raises ValueError, KeyError or TypeError for what `to_dict` did not write."""
        if content is None:
            return None
        intervals, bonds = {}, {}
        for name, pair in dict(content["pairs"]).items():
            first, other = (int(z) for z in name.split("-"))
            values, bond = np.array(pair["intervals"], dtype=np.float64), float(pair["bond"])
            if (
                values.ndim != 2
                or values.shape[1:] != (2,)
                or not 0 <= first <= other < 1000
                or not (_ascending(values.ravel()) and 0 < bond < APART)
            ):
                raise ValueError(f"known distances of {name} are no ascending intervals with a bond")
            intervals[first, other], bonds[first, other] = values, bond
        if content["cutoff"] != cutoff or any(rows[-1, 1] > cutoff for rows in intervals.values()):
            raise ValueError(f"known distances have the cutoff {content['cutoff']}, the model {cutoff}, or they go beyond it")
        return cls(intervals, bonds, cutoff)


def fit_known_distances(graphs: Iterable["Graph"], cutoff: float, radii: np.ndarray) -> KnownDistances:
    """From the graphs of all training structures; `radii`: covalent ones, Å, by atomic number."""
    seen: dict[int, list[np.ndarray]] = {}
    for graph in graphs:
        keys, distance = _key(*graph.numbers[graph.edge_index]), graph.edge_lengths
        for key in np.unique(keys):
            seen.setdefault(int(key), []).append(np.unique(np.floor(distance[keys == key] / DIGITS)))
    intervals = {}
    for key, parts in seen.items():
        steps = np.unique(np.concatenate(parts))  # a distance lies between its step and the next
        holes = np.flatnonzero(np.diff(steps) > HOLE / DIGITS)
        ends = np.stack([steps[[0, *(holes + 1)]], steps[[*holes, -1]] + 1], axis=1) * DIGITS
        intervals[divmod(key, 1000)] = np.minimum(ends.round(4), cutoff)
    return KnownDistances(intervals, {pair: float(radii[[*pair]].sum()) for pair in intervals}, cutoff)


def _key(first: Any, other: Any) -> Any:
    """One number for two elements, in any order."""
    return np.minimum(first, other) * 1000 + np.maximum(first, other)


def _ascending(values: np.ndarray) -> bool:
    return bool(len(values) and np.isfinite(values).all() and values[0] >= 0 and (np.diff(values) >= 0).all())
