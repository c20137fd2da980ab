"""Layout: the atoms and pairs of a graph in the order in which the model computes.

For torch's own operations atoms are sorted by their number of neighbours and cut into a few blocks. Inside a
block every atom has the same number of neighbour slots, so a sum over neighbours is one batched matrix
product instead of a scatter. Empty slots carry a zero radial basis and contribute exactly nothing.
For the compiled kernels there is one block with the pairs as they are, sorted by centre.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from race_calc.data.graph import Graph
from race_calc.data.neighbours import first_of_pairs
from race_calc.model.angular import harmonics
from race_calc.model.kernels.task import Neighbours

MAX_BLOCKS = 4


@dataclass(frozen=True)
class Block:
    """Atoms start:stop (model order) with `width` neighbour slots each; P = (stop - start) · width.

    With `width` None there are no empty slots: P pairs, sorted by centre, and the radial fields have one row
    for i ← j and j ← i together, with the derivatives of the first of the two.

    =========== ================== ==== ===================================================
    field       shape              unit meaning
    =========== ================== ==== ===================================================
    centre      (P,)                    atom that the slot belongs to, model order
    neighbour   (P,)                    atom in each slot, model order; 0 in an empty slot
    vectors     (P, 3)             Å    r_ij; zero in an empty slot
    angular     (P, (l_max+1)²)         spherical harmonics; zero in an empty slot
    angular_jac (P, (l_max+1)², 3) 1/Å  derivatives to r_ij
    radial      (P, n_bessel)           radial basis; zero in an empty slot
    radial_jac  (P, n_bessel, 3)   1/Å  derivatives to r_ij
    first       (P/2,)                  slot that each row of the radial fields belongs to; None where each slot has its row
    =========== ================== ==== ===================================================
    """

    start: int
    stop: int
    width: int | None
    centre: Tensor
    neighbour: Tensor
    vectors: Tensor
    angular: Tensor
    angular_jac: Tensor
    radial: Tensor
    radial_jac: Tensor
    first: Tensor | None


@dataclass(frozen=True)
class Layout:
    """A graph as tensors; N atoms in model order, B structures.

    ============ ============ ===== =======================================================
    field        shape        unit  meaning
    ============ ============ ===== =======================================================
    blocks                          tuple of Block, together all atoms
    rank         (N,)               graph order → model order: `outputs[rank]`
    species      (N,)               species index, model order
    by_species   (N,)               permutation that groups the atoms by species
    from_species (N,)               its inverse
    counts       (n_species,)       atoms of each species (host integers)
    batch        (N,)               structure of each atom, model order
    n_structures                    B
    volume       (B,)         Å³    of the cells, 0 without one
    positions    (N, 3)       Å     model order
    edges                            Neighbours of the one block for the kernels, else None
    ============ ============ ===== =======================================================
    """

    blocks: tuple[Block, ...]
    rank: Tensor
    species: Tensor
    by_species: Tensor
    from_species: Tensor
    counts: tuple[int, ...]
    batch: Tensor
    n_structures: int
    volume: Tensor
    positions: Tensor
    edges: Neighbours | None


@dataclass(frozen=True)
class Geometry:
    """A layout and its bases, expanded along the member axis: the leaves, one of each per block, of the pass that gives forces."""

    layout: Layout
    angular: list[Tensor]  # (M, P, (l_max+1)²)
    radial: list[Tensor]  # (M, P, n_bessel)
    training: bool = False  # gradients to the parameters are wanted, too


@dataclass(frozen=True)
class Numerics:
    """How the geometry is laid out. At prediction the chain rule to the positions is finished in float64 whatever the dtype."""

    dtype: torch.dtype  # of the network
    device: torch.device
    padded: bool = True  # for torch's own operations, else for the kernels
    blocks: int = MAX_BLOCKS  # padded: at most so many (and one of atoms without neighbours, unless it is 1)
    table_knots: int = 0  # of the tables that the parameters have, 0 for none
    training: bool = False  # derivatives in the dtype of the network

    def tensor(self, values: np.ndarray, field: str = "") -> Tensor:
        """Whole numbers as int64; floats in the dtype of this field of `Block`."""
        exact = self.table_knots if field == "radial" else field != "angular" and not self.training
        floats = torch.float64 if exact else self.dtype
        values = values if values.flags.writeable else values.copy()  # torch warns of tensors on what cannot be written
        return torch.as_tensor(values, dtype=floats if values.dtype.kind == "f" else torch.int64, device=self.device)


Basis = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # distances (E,) in Å → (E, k) and derivatives (E, k)
Fields = dict[str, np.ndarray]  # of a Block, float64


def make_layout(graph: Graph, species: np.ndarray, n_species: int, l_max: int, basis: Basis, numerics: Numerics) -> Layout:
    """Sort, pad and differentiate the geometry of `graph`, in float64, cast at the end. `species` (N,) holds species indices."""
    first_edge = graph.first_edge
    degree = np.diff(first_edge)
    order = np.argsort(degree, kind="stable") if numerics.padded else np.arange(graph.n_atoms)
    rank, tensor = _inverse(order), numerics.tensor
    first = None if numerics.padded else first_of_pairs(graph.pair)
    fields = _edge_fields(graph, rank, l_max, basis, slice(None) if first is None else first)

    def block(start: int, stop: int, width: int | None, fields: Fields) -> Block:
        tensors = {name: tensor(values, name) for name, values in fields.items()}
        return Block(start, stop, width, **tensors, first=None if first is None else tensor(first))

    if numerics.padded:
        blocks = tuple(
            block(start, stop, *_padded(fields, start, degree[order[start:stop]], first_edge[order[start:stop]]))
            for start, stop in _cuts(degree[order], numerics.blocks)
        )
    else:
        blocks = (block(0, graph.n_atoms, None, fields),)
    by_species = np.argsort(species[order], kind="stable")
    return Layout(
        blocks=blocks,
        rank=tensor(rank),
        species=tensor(species[order]),
        by_species=tensor(by_species),
        from_species=tensor(_inverse(by_species)),
        counts=tuple(int(c) for c in np.bincount(species, minlength=n_species)),
        batch=tensor(graph.batch[order]),
        n_structures=graph.n_structures,
        volume=tensor(graph.volume, "vectors"),
        positions=tensor(graph.positions[order], "vectors"),
        edges=None if numerics.padded else Neighbours(tensor(first_edge), blocks[0].neighbour, tensor(graph.pair), blocks[0].first),  # type: ignore[arg-type]
    )


def _edge_fields(graph: Graph, rank: np.ndarray, l_max: int, basis: Basis, rows: np.ndarray | slice) -> Fields:
    """Fields of every edge; the radial ones of the edges `rows`."""
    vectors, distance = graph.edge_vectors, graph.edge_lengths
    unit = vectors / distance[:, None]
    angular, solid = harmonics(unit, l_max)
    projector = (np.eye(3) - unit[:, :, None] * unit[:, None, :]) / distance[:, None, None]
    radial, slope = basis(distance[rows])
    centre, neighbour = graph.edge_index
    return {
        "centre": rank[centre],
        "neighbour": rank[neighbour],
        "vectors": vectors,
        "angular": angular,
        "angular_jac": solid @ projector,
        "radial": radial,
        "radial_jac": slope[:, :, None] * unit[rows, None, :],
    }


def _padded(fields: Fields, start: int, degree: np.ndarray, first_edge: np.ndarray) -> tuple[int, Fields]:
    """Slots for each atom from `start` on, as many as the last of them has edges, and their fields."""
    width = int(degree[-1])
    filled = np.arange(width) < degree[:, None]  # (n, width)
    edges = (first_edge[:, None] + np.arange(width))[filled]
    slots = {}
    for name, values in fields.items():
        slots[name] = np.zeros((filled.size,) + values.shape[1:], dtype=values.dtype)
        slots[name][filled.ravel()] = values[edges]
    slots["centre"] = np.repeat(np.arange(start, start + len(degree)), width)
    return width, slots


def _inverse(permutation: np.ndarray) -> np.ndarray:
    inverse = np.empty_like(permutation)
    inverse[permutation] = np.arange(len(permutation))
    return inverse


def _cuts(degree: np.ndarray, blocks: int) -> list[tuple[int, int]]:
    """Cut atoms, sorted by degree, into ranges of similar degree: one, or at most `blocks` + 1."""
    if blocks == 1:
        return [(0, len(degree))]
    step = max(4, -(-int(degree[-1]) // blocks))
    group = -(-degree // step)
    return [(int(np.searchsorted(group, g)), int(np.searchsorted(group, g + 1))) for g in np.unique(group)]
