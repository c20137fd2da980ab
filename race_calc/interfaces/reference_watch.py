"""Warns where reference energies of a minimum-norm fit are used for compositions that the training left open. Imports no torch."""

import warnings

import numpy as np
from ase.symbols import Symbols

from race_calc.data.graph import Graph
from race_calc.data.references import References

EMPTY = np.zeros(0, dtype=np.int64)


class ReferenceWatch:
    """Looks at compositions and warns once of each that the training did not tell the energy of (`References.leaves_free`).

    It costs nothing where the references are known; else a step is looked at only when its atoms are others or its neighbour list is
    new, which it is before any atom gets out of reach of another.
    """

    def __init__(self, references: References):
        self._references = references
        self._told: set[str] = set()
        self._numbers = EMPTY

    def watch(self, graph: Graph, moved: bool = True) -> None:
        """Warn of structures and fragments of `graph`; `moved`: it has another neighbour list than the last one."""
        if not self._references.undetermined or not (moved or not np.array_equal(graph.numbers, self._numbers)):
            return
        self._numbers = graph.numbers
        for numbers, whole in compositions(graph):
            if self._references.leaves_free(numbers):
                self._tell(Symbols(numbers).get_chemical_formula(), whole)

    def watched(self, graph: Graph) -> Graph:
        """The graph itself, after `watch`."""
        self.watch(graph)
        return graph

    def _tell(self, formula: str, whole: bool) -> None:
        if formula in self._told:
            return
        self._told.add(formula)
        what = f"a structure {formula}" if whole else f"a fragment {formula}, further than the cutoff from the rest,"
        warnings.warn(
            f"{what} has a composition that the training data leave open: the model's reference energies come from a minimum-norm fit, so "
            "its energy is off by an unknown constant, and energies of reaction or dissociation mean nothing; train with "
            "data.isolated_atoms, or with more compositions",
            stacklevel=4,
        )


def compositions(graph: Graph) -> list[tuple[np.ndarray, bool]]:
    """Atomic numbers of each structure (True) and, where it is in pieces that no pair of neighbours connects, of each piece (False)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = graph.n_atoms
    links = coo_array((np.ones(graph.edge_index.shape[1], dtype=bool), tuple(graph.edge_index)), shape=(n, n))
    _, piece = connected_components(links, directed=False)
    found = []
    for start, end in zip(graph.ptr, graph.ptr[1:]):
        numbers, pieces = graph.numbers[start:end], piece[start:end]
        found.append((numbers, True))
        kinds = np.unique(pieces)
        found += [(numbers[pieces == kind], False) for kind in kinds] if len(kinds) > 1 else []
    return found
