"""Layout: the atoms and pairs of a graph in the order in which the model computes.

Atoms are sorted by their number of neighbours and cut into a few blocks. Inside a block every atom
has the same number of neighbour slots, so a sum over neighbours is one batched matrix product
instead of a scatter. Empty slots carry a zero radial basis and contribute exactly nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from race_calc.graph import Graph
from race_calc.model.angular import harmonics
from race_calc.model.radial import bessel

MAX_BLOCKS = 4


@dataclass(frozen=True)
class Block:
    """Atoms start:stop (model order) with `width` neighbour slots each; P = (stop - start) · width.

    =========== ================ ==== ===================================================
    field       shape            unit meaning
    =========== ================ ==== ===================================================
    neighbour   (P,)                  atom in each slot, model order; 0 in an empty slot
    vectors     (P, 3)           Å    r_ij; zero in an empty slot
    angular     (P, (l_max+1)²)       spherical harmonics; zero in an empty slot
    angular_jac (P, (l_max+1)², 3) 1/Å derivatives to r_ij
    radial      (P, n_bessel)         radial basis; zero in an empty slot
    radial_jac  (P, n_bessel, 3) 1/Å  derivatives to r_ij
    =========== ================ ==== ===================================================
    """

    start: int
    stop: int
    width: int
    neighbour: Tensor
    vectors: Tensor
    angular: Tensor
    angular_jac: Tensor
    radial: Tensor
    radial_jac: Tensor


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


def make_layout(graph: Graph, species: np.ndarray, n_species: int, cutoff: float, l_max: int, n_bessel: int,
                dtype: torch.dtype, device: torch.device) -> Layout:
    """Sort, pad and differentiate the geometry of `graph`. `species` (N,) holds species indices.

    Everything is computed in float64 and cast at the end.
    """
    centre, neighbour = graph.edge_index
    degree = np.bincount(centre, minlength=graph.n_atoms)
    order = np.argsort(degree, kind="stable")
    rank = _inverse(order)
    first_edge = np.concatenate([[0], np.cumsum(degree)])

    vectors = graph.edge_vectors
    distance = np.linalg.norm(vectors, axis=1)
    unit = vectors / distance[:, None]
    angular, solid = harmonics(unit, l_max)
    projector = (np.eye(3) - unit[:, :, None] * unit[:, None, :]) / distance[:, None, None]
    radial, slope = bessel(distance / cutoff, n_bessel)
    fields = {
        "neighbour": rank[neighbour],
        "vectors": vectors,
        "angular": angular,
        "angular_jac": solid @ projector,
        "radial": radial,
        "radial_jac": slope[:, :, None] * unit[:, None, :] / cutoff,
    }

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=dtype if values.dtype.kind == "f" else torch.int64, device=device)

    blocks = []
    for start, stop in _cuts(degree[order]):
        atoms = order[start:stop]
        width = int(degree[atoms[-1]])
        filled = np.arange(width) < degree[atoms][:, None]  # (n, width)
        edges = (first_edge[atoms][:, None] + np.arange(width))[filled]
        padded = {}
        for name, values in fields.items():
            padded[name] = np.zeros((filled.size,) + values.shape[1:], dtype=values.dtype)
            padded[name][filled.ravel()] = values[edges]
        blocks.append(Block(start, stop, width, **{name: tensor(values) for name, values in padded.items()}))

    by_species = np.argsort(species[order], kind="stable")
    return Layout(
        blocks=tuple(blocks),
        rank=tensor(rank),
        species=tensor(species[order]),
        by_species=tensor(by_species),
        from_species=tensor(_inverse(by_species)),
        counts=tuple(int(c) for c in np.bincount(species, minlength=n_species)),
        batch=tensor(graph.batch[order]),
        n_structures=graph.n_structures,
    )


def _inverse(permutation: np.ndarray) -> np.ndarray:
    inverse = np.empty_like(permutation)
    inverse[permutation] = np.arange(len(permutation))
    return inverse


def _cuts(degree: np.ndarray) -> list[tuple[int, int]]:
    """Cut atoms, sorted by degree, into at most MAX_BLOCKS + 1 ranges of similar degree."""
    step = max(4, -(-int(degree[-1]) // MAX_BLOCKS))
    group = -(-degree // step)
    return [tuple(int(x) for x in np.searchsorted(group, [g, g + 1])) for g in np.unique(group)]
