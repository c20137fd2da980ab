"""One RACE layer: message, aggregation, restratification and residual, for all members at once.

Features are a list of tensors (M, N, 2l + 1, C), one per irrep of the layer.

================= ==================================================== ======================
method            equation                                             here
================= ==================================================== ======================
up                u = Lin_up(h)                                        `linear`
message           m_ij = [u_j ‖ (u_j ⊗ Y(r_ij))] ⊙ MLP(B(r_ij))        `_aggregate` or kernels
aggregate         A_i = Lin_down(Σ_j m_ij) / n̄                         `interaction`
products          B_i = A_i ⊗ A_i, (A_i ⊗ A_i) ⊗ A_i                   `products`
restratify        b_i = Lin(a_i ⊗ A_i) = W_z A_i, + W_z B_i            `per_species`
residual          h_i ← b_i + W_skip[z] h_i                            `per_species`
readout           o_i = Lin(SiLU(Lin(h_i))), of 2e through a gate      `readout`
================= ==================================================== ======================

a_i depends on the species only, so the tensor product with it is one matrix W_z per species. The paper's RACE has no products
(`model.correlation: 1`); see `race_calc.model.products`.
Source of the equations: Willow et al., Bayesian E(3)-equivariant interatomic potential with iterative
restratification of many-body message passing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from race_calc.model.angular import coupling_matrix
from race_calc.model.channels import ENERGY, READ
from race_calc.model.kernels.messages import PathWeights, message_sums
from race_calc.model.layout import Block, Geometry
from race_calc.model.linear import dense, linear, per_species
from race_calc.model.parameters import Parameters, gate_names, radial_weights
from race_calc.model.plan import LayerPlan
from race_calc.model.products import products
from race_calc.model.radial import perceptron, scaled_silu
from race_calc.model.weights import matrices, sources

Features = list[Tensor]


def interaction(layer: LayerPlan, at: str, parameters: Parameters, features: Features, around: Geometry, neighbours: float) -> Features:
    """h of the next layer."""
    layout, angular, radial = around.layout, around.angular, around.radial
    weights = matrices(layer, at, parameters, len(layout.counts))
    u = [linear(h, weights[f"up.{ir.name}"]) for h, ir in zip(features, layer.inputs)]
    mlp = radial_weights(parameters, at)
    if layout.edges is not None:
        table = parameters.get(f"{at}.table")
        path_weights = PathWeights(perceptron(radial[0], mlp) if table is None else radial[0], table)
        per_block = [message_sums(layer, layout.edges, angular[0], path_weights, u, around.training)]
    else:
        per_block = [_aggregate(layer, block, u, perceptron(basis, mlp), y) for block, y, basis in zip(layout.blocks, angular, radial)]
    sums = {
        ir.key: linear(_joined(list(parts), 1), weights[f"down.{ir.name}"]) / neighbours for ir, parts in zip(layer.sums, zip(*per_block))
    }
    made = {"product": sums, "skip": {ir.key: h for ir, h in zip(layer.inputs, features)}, **products(layer, weights, sums, layout)}
    out = []
    for ir in layer.outputs:  # one matrix product for W_z A + W_skip h + W_z B
        parts = [made[name][ir.key] for name in sources(layer, ir.key)]
        out.append(per_species(_joined(parts, -1), weights[f"mix.{ir.name}"], layout))
    return out


def _joined(tensors: list[Tensor], dim: int) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=dim)


def readout(
    layer: LayerPlan, at: str, stacks: Sequence[Parameters], features: Features, detached: bool
) -> list[tuple[dict[str, Tensor], Tensor]]:
    """Of every stack on one trunk: irrep → columns of all its channels, 0e (M, N, K) and where they are read and alive 1o and 2e
    (M, N, 2 l + 1, K); and the last-layer features (M, N, 64): the 0e are these times `readout.out` / 8. Of a shared trunk the latter two
    have one row.

    `detached`: gradients of all outputs but the energy stop at the layer's features and at the hidden
    layer that they share with the energy.
    """
    by_key = {ir.key: h for ir, h in zip(layer.outputs, features)}
    scalars, trunk = by_key[0, 1].squeeze(2), stacks[0]  # (M, N, C)
    hidden = scaled_silu(dense(scalars, trunk[f"{at}.readout.hidden"]))
    inner = {}  # what the gates let through
    for irrep, name in READ.items():
        if any(f"{at}.readout.{name}" in stack for stack in stacks):
            values = by_key[int(irrep[0]), 1 if irrep[1] == "e" else -1]  # (M, N, 2 l + 1, C)
            inputs = (scalars.detach(), values.detach()) if detached else (scalars, values)
            inner[irrep] = _gated(at, name, trunk, *inputs)
    return [(_columns(at, stack, hidden, inner, detached), hidden) for stack in stacks]


def _columns(at: str, stack: Parameters, hidden: Tensor, inner: dict[str, Tensor], detached: bool) -> dict[str, Tensor]:
    """Through the last layers of a stack."""
    weight = stack[f"{at}.readout.out"]
    if detached:
        own = ENERGY.width
        out = torch.cat([dense(hidden, weight[:, :, :own]), dense(hidden.detach(), weight[:, :, own:])], dim=-1)
    else:
        out = dense(hidden, weight)
    found = {"0e": out}
    for irrep, values in inner.items():
        if (name := f"{at}.readout.{READ[irrep]}") in stack:
            m, n, k = values.shape[:3]
            found[irrep] = dense(values.reshape(m, n * k, -1), stack[name]).view(m, n, k, -1)
    return found


def _gated(at: str, name: str, parameters: Parameters, scalars: Tensor, values: Tensor) -> Tensor:
    """(M, N, 2 l + 1, 16)."""
    gates, gated = gate_names(name)
    gate = scaled_silu(dense(scalars, parameters[f"{at}.readout.{gates}"]))
    m, n, k = values.shape[:3]
    return dense(values.reshape(m, n * k, -1), parameters[f"{at}.readout.{gated}"]).view(m, n, k, -1) * gate[:, :, None, :]


def _aggregate(layer: LayerPlan, block: Block, u: Features, weights: Tensor, angular: Tensor) -> Features:
    """Σ_j of the messages to the atoms of a block, channels of all paths side by side.

    `weights` (M, P, radial width). Returns one (M, n, 2l + 1, ΣC) per target irrep.
    """
    gathered = [x.index_select(1, block.neighbour) for x in u]  # (M, P, 2 l1 + 1, C)
    sums: list[list[Tensor]] = [[] for _ in layer.sums]
    for path, weight in zip(layer.paths, weights.split([layer.up[path.source] for path in layer.paths], dim=-1)):
        messages = weight[:, :, None, :] * gathered[path.source]
        l1, l3 = layer.inputs[path.source].l, layer.sums[path.target].l
        sums[path.target].append(_sum_over_neighbours(messages, angular, l1, path.l2, l3, block))
    return [torch.cat(parts, dim=-1) for parts in sums]


def _sum_over_neighbours(messages: Tensor, angular: Tensor, l1: int, l2: int | None, l3: int, block: Block) -> Tensor:
    """Σ_j C^{l3}_{l1 l2} messages_j Y_l2(r_ij): messages (M, P, 2 l1 + 1, C) → (M, n, 2 l3 + 1, C)."""
    m, _, k, c = messages.shape
    n, width = block.stop - block.start, block.width or 0
    if not l2:  # Y_0 = 1 and the coefficients of l ⊗ 0 → l are the identity
        return messages.view(m, n, width, k, c).sum(2)
    y = angular[..., l2**2 : (l2 + 1) ** 2]
    if l1 == 0:
        coupling = y  # the coefficients of 0 ⊗ l → l are the identity
    else:
        coupling = y @ coupling_matrix(l1, l2, l3, y)  # (M, P, (2 l1 + 1)(2 l3 + 1))
    coupling = coupling.reshape(m * n, width * k, 2 * l3 + 1)
    return torch.bmm(coupling.transpose(1, 2), messages.view(m * n, width * k, c)).view(m, n, 2 * l3 + 1, c)
