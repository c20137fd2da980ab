"""One RACE layer: message, aggregation, restratification and residual, for all members at once.

Features are a list of tensors (M, N, 2l + 1, C), one per irrep of the layer.

================= ==================================================== ======================
method            equation                                             here
================= ==================================================== ======================
up                u = Lin_up(h)                                        `_linear`
message           m_ij = [u_j ‖ (u_j ⊗ Y(r_ij))] ⊙ MLP(B(r_ij))        `_aggregate` or kernels
aggregate         A_i = Lin_down(Σ_j m_ij) / n̄                         `interaction`
restratify        b_i = Lin(a_i ⊗ A_i) = W_z A_i                       `_per_species`
residual          h_i ← b_i + W_skip[z] h_i                            `_per_species`
================= ==================================================== ======================

a_i depends on the species only, so the tensor product with it is one matrix W_z per species.
Source of the equations: Willow et al., Bayesian E(3)-equivariant interatomic potential with iterative
restratification of many-body message passing.
"""

import torch
from torch import Tensor

from race_calc.kernels.messages import message_sums
from race_calc.model.angular import coupling_matrix
from race_calc.model.layout import Block, Layout
from race_calc.model.parameters import Parameters, radial_weights
from race_calc.model.plan import LayerPlan
from race_calc.model.radial import perceptron

Features = list[Tensor]


def interaction(layer: LayerPlan, at: str, parameters: Parameters, layout: Layout, features: Features,
                angular: list[Tensor], radial: list[Tensor], neighbours: float, training: bool) -> Features:
    """h of the next layer. `angular` (M, P, (l_max+1)²) and `radial` (M, P, n_bessel), one per block."""
    u = [_linear(h, parameters[f"{at}.up.{ir.name}"]) for h, ir in zip(features, layer.inputs)]
    mlp = radial_weights(parameters, at)
    if layout.edges is not None:
        table = parameters.get(f"{at}.table")
        weights = perceptron(radial[0], mlp) if table is None else radial[0]
        per_block = [message_sums(layer, layout.edges, angular[0], weights, table, u, training)]
    else:
        per_block = [
            _aggregate(layer, block, u, perceptron(basis, mlp), y)
            for block, y, basis in zip(layout.blocks, angular, radial)
        ]
    sources = {ir.key: h for ir, h in zip(layer.inputs, features)}
    out = []
    for t, ir in enumerate(layer.outputs):
        collected = torch.cat([sums[t] for sums in per_block], dim=1)
        a = _linear(collected, parameters[f"{at}.down.{ir.name}"]) / neighbours
        weight = parameters[f"{at}.product.{ir.name}"] / (ir.mul * len(layout.counts)) ** 0.5
        if ir.key in sources:  # one matrix product for W_z A + W_skip h
            h = sources[ir.key]
            skip = parameters[f"{at}.skip.{ir.name}"] / (h.shape[-1] * len(layout.counts)) ** 0.5
            a, weight = torch.cat([a, h], dim=-1), torch.cat([weight, skip], dim=2)
        out.append(_per_species(a, weight, layout))
    return out


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    """(M, N, k, C) · (M, C, C') / √C on the channels."""
    m, n, k, c = x.shape
    return torch.bmm(x.reshape(m, n * k, c), weight / c**0.5).view(m, n, k, -1)


def _per_species(x: Tensor, weight: Tensor, layout: Layout) -> Tensor:
    """Channels of every atom times the matrix of its species: x (M, N, k, C), weight (M, S, C, C')."""
    m, _, k, c = x.shape
    parts = x.index_select(1, layout.by_species).split(layout.counts, dim=1)
    done = [
        torch.bmm(part.reshape(m, -1, c), weight[:, s]).view(m, part.shape[1], k, -1)
        for s, part in enumerate(parts)
        if part.shape[1]
    ]
    return torch.cat(done, dim=1).index_select(1, layout.from_species)


def _aggregate(layer: LayerPlan, block: Block, u: Features, weights: Tensor, angular: Tensor) -> Features:
    """Σ_j of the messages to the atoms of a block, channels of all paths side by side.

    `weights` (M, P, radial width). Returns one (M, n, 2l + 1, ΣC) per target irrep.
    """
    gathered = [x.index_select(1, block.neighbour) for x in u]  # (M, P, 2 l1 + 1, C)
    sums: list[list[Tensor]] = [[] for _ in layer.outputs]
    for path, weight in zip(layer.paths, weights.split([layer.up[path.source] for path in layer.paths], dim=-1)):
        messages = weight[:, :, None, :] * gathered[path.source]
        l1, l3 = layer.inputs[path.source].l, layer.outputs[path.target].l
        sums[path.target].append(_sum_over_neighbours(messages, angular, l1, path.l2, l3, block))
    return [torch.cat(parts, dim=-1) for parts in sums]


def _sum_over_neighbours(messages: Tensor, angular: Tensor, l1: int, l2: int | None, l3: int, block: Block) -> Tensor:
    """Σ_j C^{l3}_{l1 l2} messages_j Y_l2(r_ij): messages (M, P, 2 l1 + 1, C) → (M, n, 2 l3 + 1, C)."""
    m, _, k, c = messages.shape
    n = block.stop - block.start
    if not l2:  # Y_0 = 1 and the coefficients of l ⊗ 0 → l are the identity
        return messages.view(m, n, block.width, k, c).sum(2)
    y = angular[..., l2**2 : (l2 + 1) ** 2]
    if l1 == 0:
        coupling = y  # the coefficients of 0 ⊗ l → l are the identity
    else:
        coupling = y @ coupling_matrix(l1, l2, l3, y)  # (M, P, (2 l1 + 1)(2 l3 + 1))
    coupling = coupling.reshape(m * n, block.width * k, 2 * l3 + 1)
    return torch.bmm(coupling.transpose(1, 2), messages.view(m * n, block.width * k, c)).view(m, n, 2 * l3 + 1, c)
