"""What the C kernels must know of a product of features: where the components lie, and its coefficients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from race_calc.model.angular import clebsch_gordan
from race_calc.model.plan import Irrep, Product

PLACE = np.dtype([(name, np.int32) for name in ("tensor", "at", "stride")])
SMALLEST = 1e-12  # of a coefficient that counts


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
    """Places of all components and the Clebsch-Gordan coefficients, sparse; `real`: "float" or "double".

    `live`: only these targets; None: all. Where both factors are one, the two coefficients of x[a] x[b] are joined.
    """
    live = tuple(range(len(product.targets))) if live is None else live
    same = product.order == 2
    x_at, y_at = _places(product.left), _places(product.right)
    x_from, y_from = _starts(product.left), _starts(product.right)
    rows, first, places = [], [0], []
    offset = [0] * len(product.targets)
    for coupling in product.couplings:
        a, b, t = coupling.left, coupling.right, coupling.target
        channels, o = product.left[a].mul, offset[t]
        offset[t] += channels
        if t not in live:
            continue
        coefficients = clebsch_gordan(product.left[a].l, product.right[b].l, product.targets[t].l)
        for k3 in range(coefficients.shape[2]):
            terms: dict[tuple[int, int], float] = {}
            for (k1, k2), value in np.ndenumerate(coefficients[:, :, k3]):
                pair = x_from[a] + k1, y_from[b] + k2
                pair = (min(pair), max(pair)) if same else pair
                terms[pair] = terms.get(pair, 0.0) + value
            rows += [(*pair, value) for pair, value in terms.items() if abs(value) > SMALLEST]
            first.append(len(rows))
            target = product.targets[t]
            places.append((live.index(t), k3 * target.mul + o, (2 * target.l + 1) * target.mul))
    term = np.dtype([("k1", np.int32), ("k2", np.int32), ("value", np.float32 if real == "float" else np.float64)])
    return ProductRecipe(
        product.left[0].mul,
        same,
        x_at,
        y_at,
        np.array(places, dtype=PLACE),
        np.array(rows, dtype=term),
        np.array(first, dtype=np.int32),
        tuple((2 * product.targets[t].l + 1, product.targets[t].mul) for t in live),
        partial(product_recipe, product, real),
    )


def _places(factor: Sequence[Irrep]) -> np.ndarray:
    """Of the components of all irreps of a factor."""
    return np.array([(t, k * ir.mul, (2 * ir.l + 1) * ir.mul) for t, ir in enumerate(factor) for k in range(2 * ir.l + 1)], dtype=PLACE)


def _starts(factor: Sequence[Irrep]) -> list[int]:
    """First component of each irrep."""
    return np.cumsum([0] + [2 * ir.l + 1 for ir in factor]).tolist()
