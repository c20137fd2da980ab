"""A part of space by itself: energies of its own atoms, and the forces that these make on all; parts add up to the whole."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from race_calc.data.graph import Graph
from race_calc.data.neighbours import first_of_pairs
from race_calc.model.derivatives import forces_and_virial, geometry_gradients
from race_calc.model.race import energies_of, geometry, outputs_of
from race_calc.posterior.pairs import unfolded
from race_calc.posterior.stack import StackPosterior, array


@dataclass(frozen=True, eq=False)
class Domain:
    """What the first n of N atoms are worth, uncalibrated.

    =================== =================== ======== ==============================================================
    field               shape               unit     meaning
    =================== =================== ======== ==============================================================
    energies            (n,)                eV       of each of them, mean over the members
    forces              (N, 3)              eV/Å     minus the gradient of the sum of these, mean over the members
    virial              (3, 3)              eV       dE/dε of a symmetric strain
    energies_members    (M,)                eV       their sum, per member
    forces_members      (M, N, 3) or None   eV/Å     forces, per member: they add up at their atoms before anything is squared
    energy_aleatoric    float or None       eV²      predicted variance of the sum
    forces_aleatoric    (n, 3, 3) or None   (eV/Å)²  predicted covariances
    =================== =================== ======== ==============================================================
    """

    energies: np.ndarray
    forces: np.ndarray
    virial: np.ndarray
    energies_members: np.ndarray
    forces_members: np.ndarray | None
    energy_aleatoric: float | None
    forces_aleatoric: np.ndarray | None


@torch.inference_mode(False)
def evaluate_domain(posterior: StackPosterior, graph: Graph) -> Domain:
    """Of a graph of two "structures", `domain_graph`. By torch, not by the one compiled call. Raises ValueError for an unknown element."""
    n = int(graph.ptr[1])
    layout = posterior.layout(graph)
    if layout.edges is not None:
        layout = replace(layout, edges=replace(layout.edges, threads=torch.get_num_threads()))
    around = geometry(posterior.parameters, layout)
    for leaf in (*around.angular, *around.radial):
        leaf.requires_grad_()
    with torch.enable_grad():
        energies = energies_of(posterior.model, posterior.parameters, around)
        own = energies.energy[:, 0].sum() * (len(around.angular[0]) / len(energies.energy))
        gradients = geometry_gradients(own, around.angular, around.radial, False)
    outputs = outputs_of(posterior.model, posterior.parameters, layout, energies, forces_and_virial(gradients, layout))
    own_pairs = graph.edge_index[0] < n  # of a repulsion half of each pair belongs to each of its atoms
    known = posterior.known(replace(graph, edge_index=graph.edge_index[:, own_pairs], shifts=graph.shifts[own_pairs]))
    told = posterior.told(outputs, graph, known, None, whole=False)
    assert told.energies is not None and told.energies_members is not None
    virials = array((unfolded(outputs) if posterior.folded else outputs).virial).sum(1)
    virial = virials[0] if posterior.centered else virials.mean(0)  # of the set that gives the means
    aleatoric = told.forces_covariance_aleatoric
    return Domain(
        energies=told.energies[:n],
        forces=told.forces,
        virial=virial if known is None else virial + known.virial.sum(0),
        energies_members=told.energies_members[:, 0],
        forces_members=told.forces_members,
        energy_aleatoric=None if told.energy_aleatoric is None else float(told.energy_aleatoric[0]),
        forces_aleatoric=None if aleatoric is None else aleatoric[:n],
    )


def domain_graph(numbers: np.ndarray, positions: np.ndarray, edges: np.ndarray, n_local: int, cutoff: float) -> Graph:
    """The first `n_local` atoms as one structure, the others as a second one; `edges` (2, E), each pair in both directions.

    Raises ValueError for what does not fit together.
    """
    numbers, positions, edges = np.asarray(numbers, np.int64), np.asarray(positions, np.float64), np.asarray(edges, np.int64)
    n = len(numbers)
    if positions.shape != (n, 3) or edges.ndim != 2 or len(edges) != 2 or not 0 < n_local <= n:
        raise ValueError(
            f"need numbers (N,), positions (N, 3), edges (2, E) and 0 < n_local ≤ N, got {numbers.shape}, {positions.shape}, "
            f"{edges.shape}, n_local = {n_local}"
        )
    if edges.size and not (edges.min() >= 0 and edges.max() < n):
        raise ValueError(f"edges must be numbers of atoms from 0 to {n - 1}, got {edges.min()} to {edges.max()}")
    edges = edges[:, np.linalg.norm(positions[edges[1]] - positions[edges[0]], axis=1) < cutoff]
    edges = edges[:, np.lexsort(edges[::-1])]
    _, pair = np.unique(np.sort(edges, axis=0), axis=1, return_inverse=True)
    pair = pair.reshape(-1)
    if edges.shape[1] and not (np.bincount(pair) == 2).all():
        raise ValueError("each pair of atoms must stand in edges twice, once in each direction")
    order = np.empty(len(pair) // 2, dtype=np.int64)
    order[np.argsort(first_of_pairs(pair))] = np.arange(len(order))
    return Graph(
        numbers=numbers,
        positions=positions,
        cell=np.zeros((2, 3, 3)),
        pbc=np.zeros((2, 3), dtype=bool),
        edge_index=edges,
        shifts=np.zeros((edges.shape[1], 3), dtype=np.int64),
        pair=order[pair],
        batch=(np.arange(n) >= n_local).astype(np.int64),
        ptr=np.array([0, n_local, n]),
    )
