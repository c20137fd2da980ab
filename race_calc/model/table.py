"""Radial perceptrons as tables: at prediction the path weights are functions of one distance.

Quintic B-splines on a grid of [0, r_c] that interpolate the perceptron at every knot: one coefficient a knot, four
continuous derivatives. Value, slope and curvature vanish at the cutoff, as those of the perceptron do. Forces are exact
derivatives of the tabulated energy.
"""

import numpy as np
import torch
from scipy.interpolate import make_interp_spline
from torch import Tensor

from race_calc.model.config import ModelConfig
from race_calc.model.parameters import Parameters, radial_weights
from race_calc.model.radial import bessel, perceptron

FEWEST_KNOTS, MOST_KNOTS = 1024, 16384
DEGREE = 5
SOFTENING = 0.5  # Å
TOLERANCE = 5e-7  # largest error halfway between two knots, in units of the root mean square of the path weights
NEAREST = 0.7  # Å; errors at shorter distances do not count, no atoms are there
HALFWAY = np.array([1, 237, 1682, 1682, 237, 1]) / 3840  # quintic B-splines there


def place_on_grid(distance: np.ndarray, cutoff: float, knots: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances (E,) in Å → places (E,) on the grid, 0 … knots - 1, and their slopes in 1/Å; beyond the cutoff the end.

    The place is a logarithm, log(1 + r / SOFTENING): radial functions bend most at short distances.
    """
    scale = (knots - 1) / np.log1p(cutoff / SOFTENING)
    place = np.where(distance < cutoff, scale * np.log1p(distance / SOFTENING), knots - 1.0)
    return place, np.where(distance < cutoff, scale / (distance + SOFTENING), 0.0)


def table_knots(parameters: Parameters) -> int:
    """Knots of the tables; 0 where there are none."""
    return parameters["layers.0.table"].shape[1] - DEGREE + 1 if "layers.0.table" in parameters else 0


def tabulated(parameters: Parameters, config: ModelConfig) -> Parameters:
    """The parameters with `layers.i.table` (M, knots + 4, W) in place of `layers.i.radial.k`.

    A table holds the B-spline coefficients of the path weights, float64 on the CPU. All layers have the same knots, as many
    as keep the error halfway between two of them below TOLERANCE, from FEWEST_KNOTS to MOST_KNOTS.
    """
    perceptrons = [[w.double().cpu() for w in radial_weights(parameters, f"layers.{i}")] for i in range(config.layers)]
    knots = FEWEST_KNOTS
    while True:
        tables, error = zip(*[_table(weights, config, knots) for weights in perceptrons])
        if max(error) < TOLERANCE or knots == MOST_KNOTS:
            break
        knots *= 2
    out = {name: value for name, value in parameters.items() if ".radial." not in name}
    return out | {f"layers.{i}.table": table for i, table in enumerate(tables)}


def _table(weights: list[Tensor], config: ModelConfig, knots: int) -> tuple[Tensor, float]:
    """The table of one layer and its relative error halfway between the knots."""
    places = np.arange(2 * knots - 1) / 2  # knots and the points halfway
    r = SOFTENING * np.expm1(places * np.log1p(config.cutoff / SOFTENING) / (knots - 1))
    r[0], r[-1] = 1e-3 * r[1], config.cutoff  # the limit at 0, where no pair is
    basis = torch.from_numpy(bessel(r / config.cutoff, config.n_bessel)[0])
    values = perceptron(basis.expand(len(weights[0]), -1, -1), weights).numpy()  # (M, 2 knots - 1, W)
    tables = np.stack([_coefficients(member[::2]) for member in values])
    between = sum(w * tables[:, k : k + knots - 1] for k, w in enumerate(HALFWAY))
    error = np.abs(between - values[:, 1::2])[:, r[1::2] > NEAREST]
    scale = np.sqrt(np.mean(values**2))
    return torch.from_numpy(tables), float(error.max(initial=0.0) / scale) if scale > 0 else 0.0


def _coefficients(values: np.ndarray) -> np.ndarray:
    """(knots, W) → (knots + 4, W). Two conditions more at each end: no third and fourth derivative at 0, where no pair
    is, and the exact slope and curvature at the cutoff, zero."""
    nothing = np.zeros(values.shape[1:])
    knots = np.arange(-DEGREE, len(values) + DEGREE, dtype=float)
    ends = [(3, nothing), (4, nothing)], [(1, nothing), (2, nothing)]
    return make_interp_spline(np.arange(len(values)), values, DEGREE, t=knots, bc_type=ends).c  # type: ignore[arg-type]  # stubs want scalars
