"""Products of A_i with itself, channel by channel: what raises the body order inside a layer.

=========== ======================================================= ==========================
step        equation                                                here
=========== ======================================================= ==========================
factor      R = Lin(A), P channels of every irrep                   `factor.…`
order 2     B² = every coupling (l₁, l₂ → l₃) of R ⊗ R              `coupled`
order 3     B³ = every coupling of Lin(B²) ⊗ R                      `left3.…`, `coupled`
=========== ======================================================= ==========================

All of B goes on through one matrix per species, beside A. The idea of a product basis is that of the atomic cluster
expansion (Drautz, Phys. Rev. B 99, 014104 (2019)); the paper's RACE has none.
"""

import torch
from torch import Tensor

from race_calc.model.coupling import matrix_of
from race_calc.model.kernels.products import coupled_by_kernels
from race_calc.model.layout import Layout
from race_calc.model.linear import linear
from race_calc.model.parameters import Parameters
from race_calc.model.plan import Key, LayerPlan, Product

ByKey = dict[Key, Tensor]  # degree and parity → (M, N, 2l + 1, channels)


def products(layer: LayerPlan, weights: Parameters, sums: ByKey, layout: Layout) -> dict[str, ByKey]:
    """ "power2", "power3" → products of that order, the channels of all couplings to an irrep side by side.

    `weights`: those of `race_calc.model.weights.matrices`.
    """
    factors = {ir.key: linear(sums[ir.key], weights[f"factor.{ir.name}"]) for ir in layer.factor}
    done: dict[str, ByKey] = {}
    made: ByKey = {}
    for product in layer.products:
        right = [factors[ir.key] for ir in product.right]
        if product.order == 2:
            left = right
        else:
            left = [linear(made[ir.key], weights[f"left{product.order}.{ir.name}"]) for ir in product.left]
        found = coupled(product, left, right) if layout.edges is None else coupled_by_kernels(product, left, right, layout.edges.threads)
        made = {ir.key: values for ir, values in zip(product.targets, found)}
        done[f"power{product.order}"] = made
    return done


def coupled(product: Product, left: list[Tensor], right: list[Tensor]) -> list[Tensor]:
    """Every coupling of the factors, (M, N, 2l + 1, P) per irrep: one (M, N, 2l + 1, couplings · P) per target."""
    first, second, coefficients = matrix_of(product, left[0])
    pairs = torch.cat(left, dim=2).index_select(2, first) * torch.cat(right, dim=2).index_select(2, second)
    m, n, _, p = pairs.shape
    widths = [(2 * ir.l + 1) * ir.mul // p for ir in product.targets]
    parts = (coefficients @ pairs).split(widths, dim=2)  # of each target (M, N, couplings · (2l + 1), P)
    return [
        part.view(m, n, -1, 2 * ir.l + 1, p).transpose(2, 3).reshape(m, n, 2 * ir.l + 1, ir.mul) for ir, part in zip(product.targets, parts)
    ]
