"""What the C kernels must know of a product of features: where the components lie, and its coefficients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from race_calc.model.coupling import rows_of
from race_calc.model.plan import Irrep, Product

PLACE = np.dtype([(name, np.int32) for name in ("tensor", "at", "stride")])


@dataclass(frozen=True)
class ProductRecipe:
    """A product, all or some of its targets, as the kernels read it; arrays of constants, fields of `Product` in products.c."""

    channels: int
    same: bool  # both factors are one
    x_at: np.ndarray
    y_at: np.ndarray
    g_at: np.ndarray
    terms: np.ndarray
    first_term: np.ndarray
    targets: tuple[tuple[int, int], ...]  # (2 l + 1, channels) of each
    part: Callable[[tuple[int, ...]], "ProductRecipe"]  # these targets only


@cache
def product_recipe(product: Product, real: str, live: tuple[int, ...] | None = None) -> ProductRecipe:
    """Places of all components and the coefficients; `real`: "float" or "double".

    `live`: only these targets; None: all.
    """
    live = tuple(range(len(product.targets))) if live is None else live
    rows = [row for row in rows_of(product) if row.target in live]
    terms = [term for row in rows for term in row.terms]
    first = np.cumsum([0] + [len(row.terms) for row in rows])
    places = [
        (live.index(row.target), row.k * target.mul + row.channel, (2 * target.l + 1) * target.mul)
        for row, target in ((row, product.targets[row.target]) for row in rows)
    ]
    term = np.dtype([("k1", np.int32), ("k2", np.int32), ("value", np.float32 if real == "float" else np.float64)])
    return ProductRecipe(
        product.left[0].mul,
        product.order == 2,
        _places(product.left),
        _places(product.right),
        np.array(places, dtype=PLACE),
        np.array(terms, dtype=term),
        first.astype(np.int32),
        tuple((2 * product.targets[t].l + 1, product.targets[t].mul) for t in live),
        partial(product_recipe, product, real),
    )


def _places(factor: Sequence[Irrep]) -> np.ndarray:
    """Of the components of all irreps of a factor."""
    return np.array([(t, k * ir.mul, (2 * ir.l + 1) * ir.mul) for t, ir in enumerate(factor) for k in range(2 * ir.l + 1)], dtype=PLACE)
