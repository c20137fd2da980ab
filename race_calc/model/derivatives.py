"""Exact forces and virial of every member from one backward pass.

The geometry enters the model only through Y(r_ij) and B(r_ij), which the members share. Expanded along the
member axis they are the leaves of one backward pass, which gives dE_m/dY and dE_m/dB for every member; the
chain rule to r_ij is finished here with Jacobians that do not depend on the parameters.
"""

import torch
from torch import Tensor

from race_calc.model.layout import Layout
from race_calc.model.scatter import sum_by_index


def forces_and_virial(energy: Tensor, layout: Layout, angular: list[Tensor], radial: list[Tensor],
                      create_graph: bool) -> tuple[Tensor, Tensor]:
    """Forces (M, N, 3) in eV/Å, model order, and dE/dε (M, B, 3, 3) in eV of energies (M, B)."""
    members, n_structures = energy.shape
    n_atoms = len(layout.batch)
    dtype = layout.blocks[0].vectors.dtype
    forces = energy.new_zeros(members, n_atoms, 3, dtype=dtype)
    virial = energy.new_zeros(members, n_structures, 3, 3, dtype=dtype)
    used = [i for i, block in enumerate(layout.blocks) if len(block.neighbour)]
    if not used:
        return forces, virial
    leaves = [angular[i] for i in used] + [radial[i] for i in used]
    # one layer, or l_max = 0: the energy does not depend on the angular leaves, their gradient is zero
    gradients = torch.autograd.grad(energy.sum(), leaves, create_graph=create_graph, materialize_grads=True)
    for i, d_angular, d_radial in zip(used, gradients[: len(used)], gradients[len(used) :]):
        block = layout.blocks[i]
        pair = torch.einsum("mpa,pax->mpx", d_angular.to(dtype), block.angular_jac)  # dE/dr_ij (M, P, 3)
        along = torch.einsum("mpb,pbx->mpx", d_radial.to(dtype), block.radial_jac)
        pair = pair + along if block.first is None else pair.index_add(1, block.first, along)
        forces = forces + sum_by_index(pair, block.centre, n_atoms) - sum_by_index(pair, block.neighbour, n_atoms)
        outer = block.vectors[:, :, None] * pair[:, :, None, :]  # (M, P, 3, 3)
        virial = virial + sum_by_index(outer, layout.batch[block.centre], n_structures)
    return forces, (virial + virial.transpose(-1, -2)) / 2
