"""What the C kernels must know of a layer: its paths and couplings as arrays of constants."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from race_calc.model.angular import SMALLEST, clebsch_gordan
from race_calc.model.plan import LayerPlan

PATH = np.dtype([(name, np.int32) for name in ("l1", "l3", "source", "target", "channels", "r", "o", "k", "again")])


@dataclass(frozen=True)
class Recipe:
    """The paths of a layer, all or those into some of its irreps, as the kernels read them; arrays of constants."""

    paths: np.ndarray
    couplings: np.ndarray
    first_coupling: np.ndarray
    n_k: int
    sources: tuple[tuple[int, int], ...]  # (2 l + 1, channels) of each u
    targets: tuple[tuple[int, int], ...]  # the same of each sum
    source_width: np.ndarray
    target_width: np.ndarray
    target_channels: np.ndarray
    radial_width: int
    part: Callable[[tuple[int, ...]], "Recipe"]  # the paths into these targets only


@cache
def recipe(layer: LayerPlan, l_max: int, real: str, live: tuple[int, ...] | None = None) -> Recipe:
    """Offsets of every path in radial weights and sums, and the Clebsch-Gordan coefficients, sparse.

    `live`: only the paths into these target irreps; None: all.
    """
    live = tuple(range(len(layer.sums))) if live is None else live
    coupling = np.dtype([("k", np.int32), ("y", np.int32), ("value", np.float32 if real == "float" else np.float64)])
    paths, couplings, at, channels, r = [], [], {}, [0] * len(layer.sums), 0
    coupled: set[int] = set()
    n_k = 0
    for path in layer.paths:
        l1, l3, width = layer.inputs[path.source].l, layer.sums[path.target].l, layer.up[path.source]
        k, again = -1, False
        if path.l2:
            if (l1, path.l2, l3) not in at:  # numbered alike whatever is live
                at[l1, path.l2, l3] = n_k
                n_k += (2 * l1 + 1) * (2 * l3 + 1)
            k = at[l1, path.l2, l3]
            again = k in coupled
            if path.target in live and not again:
                coupled.add(k)
                couplings += _coefficients(l1, path.l2, l3, k)
        if path.target in live:
            paths.append((l1, l3, path.source, live.index(path.target), width, r, channels[path.target], k, again))
        channels[path.target] += width
        r += width
    sources = tuple((2 * ir.l + 1, up) for ir, up in zip(layer.inputs, layer.up))
    targets = tuple((2 * layer.sums[t].l + 1, channels[t]) for t in live)
    ordered = np.array(sorted(couplings, key=lambda c: (c[1], c[0])), dtype=coupling)
    first_coupling = np.searchsorted(ordered["y"], np.arange((l_max + 1) ** 2 + 1))
    return Recipe(
        np.array(paths, dtype=PATH),
        ordered,
        first_coupling.astype(np.int64),
        n_k,
        sources,
        targets,
        np.array([k * c for k, c in sources], dtype=np.int32),
        np.array([k * c for k, c in targets], dtype=np.int32),
        np.array([c for _, c in targets], dtype=np.int32),
        r,
        partial(recipe, layer, l_max, real),
    )


def _coefficients(l1: int, l2: int, l3: int, k: int) -> list[tuple[int, int, float]]:
    """Of K_p, whose first component is k: which component, which harmonic, and the value."""
    values = np.ndenumerate(clebsch_gordan(l1, l2, l3))
    return [(k + a * (2 * l3 + 1) + b, l2**2 + y, value) for (a, y, b), value in values if abs(value) > SMALLEST]
