"""Graph: atoms and their neighbour pairs, always batched. One structure is a batch of one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms

from race_calc.data.neighbours import Pairs, neighbour_pairs
from race_calc.data.skin import SkinList, pairs_within, updated
from race_calc.data.structure import checked


@dataclass(frozen=True)
class Graph:
    """N atoms in B structures with E directed pairs, as NumPy arrays.

    =========== ============ ======= ==================================================
    field       shape        unit    meaning
    =========== ============ ======= ==================================================
    numbers     (N,)                 atomic numbers
    positions   (N, 3)       Å
    cell        (B, 3, 3)    Å       rows are the cell vectors; zero where there are none
    pbc         (B, 3)               periodic directions
    edge_index  (2, E)               centre i and neighbour j, sorted by centre
    shifts      (E, 3)               integer cell shifts: r_ij = r_j - r_i + shifts @ cell
    pair        (E,)                 number of the undirected pair, shared by i ← j and j ← i
    batch       (N,)                 structure of each atom
    ptr         (B + 1,)             first atom of each structure
    =========== ============ ======= ==================================================
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    edge_index: np.ndarray
    shifts: np.ndarray
    pair: np.ndarray
    batch: np.ndarray
    ptr: np.ndarray

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @property
    def n_structures(self) -> int:
        return len(self.ptr) - 1

    @property
    def first_edge(self) -> np.ndarray:
        """Where the pairs of each atom begin, and where those of the last end (N + 1,)."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.edge_index[0], minlength=self.n_atoms))])

    @property
    def volume(self) -> np.ndarray:
        """Cell volumes (B,) in Å³; zero where a structure is not periodic or its cell has none."""
        return np.where(self.pbc.any(axis=1), np.abs(np.linalg.det(self.cell)), 0.0)

    @cached_property  # of a crystal it is read four times a step
    def edge_vectors(self) -> np.ndarray:
        """r_ij = r_j - r_i + shift (E, 3) in Å; read only."""
        centre, neighbour = self.edge_index
        vectors: np.ndarray = self.positions[neighbour] - self.positions[centre]
        vectors += np.einsum("ea,eab->eb", self.shifts, self.cell[self.batch[centre]])
        vectors.flags.writeable = False
        return vectors

    @cached_property
    def edge_lengths(self) -> np.ndarray:
        """Their lengths (E,) in Å; read only."""
        lengths: np.ndarray = np.linalg.norm(self.edge_vectors, axis=1)
        lengths.flags.writeable = False
        return lengths


def from_atoms(atoms: Atoms, cutoff: float) -> Graph:
    """The graph of one structure, which stays as it is. `cutoff` in Å. Raises ValueError as `neighbour_pairs` does."""
    atoms = checked(atoms)
    return _graph(atoms, neighbour_pairs(atoms, cutoff))


def from_atoms_with_skin(atoms: Atoms, cutoff: float, last: SkinList | None) -> tuple[Graph, SkinList]:
    """The same, from the pairs of an earlier structure where these still serve, and the list for the next one."""
    atoms = checked(atoms)
    pairs = updated(last, atoms, cutoff)
    return _graph(atoms, pairs_within(pairs, atoms, cutoff)), pairs


def _graph(atoms: Atoms, pairs: Pairs) -> Graph:
    centre, neighbour, shifts, pair = pairs
    return Graph(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.astype(np.float64),
        cell=atoms.cell.array.astype(np.float64)[None],
        pbc=np.asarray(atoms.pbc)[None].copy(),
        edge_index=np.stack([centre, neighbour]),
        shifts=shifts,
        pair=pair,
        batch=np.zeros(len(atoms), dtype=np.int64),
        ptr=np.array([0, len(atoms)]),
    )


def collate(graphs: list[Graph]) -> Graph:
    """One batched graph from several; the order of structures and atoms is kept."""
    if len(graphs) == 1:
        return graphs[0]
    sizes = [(graph.n_atoms, len(graph.pair) // 2, graph.n_structures) for graph in graphs]
    atoms, pairs, structures = np.cumsum([(0, 0, 0), *sizes], axis=0).T  # before each graph
    as_they_are = ("numbers", "positions", "cell", "pbc", "shifts")
    return Graph(
        **{name: np.concatenate([getattr(graph, name) for graph in graphs]) for name in as_they_are},
        edge_index=np.concatenate([g.edge_index + n for g, n in zip(graphs, atoms)], axis=1),
        pair=np.concatenate([g.pair + n for g, n in zip(graphs, pairs)]),
        batch=np.concatenate([g.batch + n for g, n in zip(graphs, structures)]),
        ptr=np.concatenate([[0], *(g.ptr[1:] + n for g, n in zip(graphs, atoms))]),
    )


def batches(graphs: Iterable[Graph], max_atoms: int) -> Iterator[Graph]:
    """`collate` of graphs that have at most `max_atoms` atoms together, or of one that alone has more; the order is kept."""
    together: list[Graph] = []
    atoms = 0
    for graph in graphs:
        if together and atoms + graph.n_atoms > max_atoms:
            yield collate(together)
            together, atoms = [], 0
        together.append(graph)
        atoms += graph.n_atoms
    yield collate(together)


def structures_of(graph: Graph) -> list[Atoms]:
    """The structures of a graph, as atoms."""
    spans = zip(graph.ptr, graph.ptr[1:], graph.cell, graph.pbc)
    return [Atoms(graph.numbers[i:j], graph.positions[i:j], cell=cell, pbc=pbc) for i, j, cell, pbc in spans]


def average_neighbours(graphs: list[Graph]) -> float:
    """Mean number of neighbours per atom, n̄ of the model; at least 1."""
    return max(sum(len(graph.pair) for graph in graphs) / sum(graph.n_atoms for graph in graphs), 1.0)
