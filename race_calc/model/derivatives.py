"""Exact forces and virial of every member from one backward pass.

The geometry enters the model only through Y(r_ij) and B(r_ij), which the members share. Expanded along the
member axis they are the leaves of one backward pass, which gives dE_m/dY and dE_m/dB for every member; the
chain rule to r_ij is finished here with Jacobians that do not depend on the parameters.
"""

import torch
from torch import Tensor

from race_calc.model.layout import Layout
from race_calc.model.scatter import sum_by_index

Gradients = tuple[list[Tensor], list[Tensor]]  # dE/dY and dE/dB of every block, shaped as the leaves


def geometry_gradients(energy: Tensor, angular: list[Tensor], radial: list[Tensor], create_graph: bool, again: bool = False) -> Gradients:
    """Of the sum of all energies to the leaves `angular` and `radial` (M, P, …), one of each per block; `again`: the graph is kept."""
    leaves = [*angular, *radial]
    if not any(leaf.shape[1] for leaf in leaves):
        return [torch.zeros_like(leaf) for leaf in angular], [torch.zeros_like(leaf) for leaf in radial]
    # one layer, or l_max = 0: the energy does not depend on the angular leaves, their gradient is zero
    found = torch.autograd.grad(energy, leaves, create_graph=create_graph, retain_graph=create_graph or again, materialize_grads=True)
    return list(found[: len(angular)]), list(found[len(angular) :])


def forces_and_virial(gradients: Gradients, layout: Layout) -> tuple[Tensor, Tensor]:
    """Forces (M, N, 3) in eV/Å, model order, and dE/dε (M, B, 3, 3) in eV."""
    dtype, n_atoms, members = layout.blocks[0].vectors.dtype, len(layout.batch), len(gradients[0][0])
    forces = layout.blocks[0].vectors.new_zeros(members, n_atoms, 3)
    virial = forces.new_zeros(members, layout.n_structures, 3, 3)
    for block, d_angular, d_radial in zip(layout.blocks, *gradients):
        pair = torch.einsum("mpa,pax->mpx", d_angular.to(dtype), block.angular_jac)  # dE/dr_ij (M, P, 3)
        along = torch.einsum("mpb,pbx->mpx", d_radial.to(dtype), block.radial_jac)
        pair = pair + along if block.first is None else pair.index_add(1, block.first, along)
        forces = forces + sum_by_index(pair, block.centre, n_atoms) - sum_by_index(pair, block.neighbour, n_atoms)
        outer = block.vectors[:, :, None] * pair[:, :, None, :]  # (M, P, 3, 3)
        virial = virial + sum_by_index(outer, layout.batch[block.centre], layout.n_structures)
    return forces, (virial + virial.transpose(-1, -2)) / 2
