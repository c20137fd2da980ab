"""The Clebsch-Gordan coefficients of a product of features, as rows of a sparse matrix on pairs of components."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from race_calc.model.angular import SMALLEST, clebsch_gordan, constant
from race_calc.model.plan import Irrep, Product


@dataclass(frozen=True)
class Row:
    """One component of one coupling: Σ value · left[k1] right[k2] → component `k` of a target, channels from `channel` on.

    k1 and k2 count the components of all irreps of a factor.
    """

    target: int
    k: int
    channel: int
    terms: tuple[tuple[int, int, float], ...]  # (k1, k2, value)


@cache
def rows_of(product: Product) -> tuple[Row, ...]:
    """All rows, in the order of targets, couplings, components.

    In order 2, where both factors are one, the two coefficients of a pair of components are joined.
    """
    left, right = _starts(product.left), _starts(product.right)
    rows = []
    for t, target in enumerate(product.targets):
        channel = 0
        for coupling in (c for c in product.couplings if c.target == t):
            a, b = coupling.left, coupling.right
            coefficients = clebsch_gordan(product.left[a].l, product.right[b].l, target.l)
            for k in range(2 * target.l + 1):
                terms: dict[tuple[int, int], float] = {}
                for (k1, k2), value in np.ndenumerate(coefficients[:, :, k]):
                    pair = left[a] + k1, right[b] + k2
                    pair = (min(pair), max(pair)) if product.order == 2 else pair
                    terms[pair] = terms.get(pair, 0.0) + value
                rows.append(Row(t, k, channel, tuple((*pair, value) for pair, value in terms.items() if abs(value) > SMALLEST)))
            channel += product.left[a].mul
    return tuple(rows)


def matrix_of(product: Product, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Left and right component of every pair that counts (pairs,), and the coefficients (rows, pairs) in the dtype of `like`, on its
    device."""
    if torch.compiler.is_compiling():
        return _tensors(_numbers(product), like.dtype, like.device)
    return _kept(product, like.dtype, like.device)


Numbers = tuple[list[int], list[int], list[list[float]]]


@cache
def _kept(product: Product, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    return _tensors(_numbers(product), dtype, device)


def _tensors(numbers: Numbers, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    first, second, values = numbers
    left, right = (torch.tensor(components, dtype=torch.int64, device=device) for components in (first, second))
    return left, right, torch.tensor(values, dtype=dtype, device=device)


@constant
def _numbers(product: Product) -> Numbers:
    rows = rows_of(product)
    pairs = sorted({(k1, k2) for row in rows for k1, k2, _ in row.terms})
    column = {pair: k for k, pair in enumerate(pairs)}
    values = np.zeros((len(rows), len(pairs)))
    for r, row in enumerate(rows):
        for k1, k2, value in row.terms:
            values[r, column[k1, k2]] = value
    return [k1 for k1, _ in pairs], [k2 for _, k2 in pairs], values.tolist()


def _starts(factor: Sequence[Irrep]) -> list[int]:
    """First component of each irrep."""
    return np.cumsum([0] + [2 * ir.l + 1 for ir in factor]).tolist()
