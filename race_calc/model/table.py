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

KNOTS = 1024
DEGREE = 5
SOFTENING = 0.5  # Å


def place_on_grid(distance: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances (E,) in Å → places (E,) on the grid, 0 … KNOTS - 1, and their slopes in 1/Å.

    The place is a logarithm, log(1 + r / SOFTENING): radial functions bend most at short distances.
    """
    scale = (KNOTS - 1) / np.log1p(cutoff / SOFTENING)
    return scale * np.log1p(distance / SOFTENING), scale / (distance + SOFTENING)


def has_tables(parameters: Parameters) -> bool:
    return "layers.0.table" in parameters


def tabulated(parameters: Parameters, config: ModelConfig) -> Parameters:
    """The parameters with `layers.i.table` (M, KNOTS + 4, W) in place of `layers.i.radial.k`.

    A table holds the B-spline coefficients of the path weights, float64 on the CPU.
    """
    r = SOFTENING * np.expm1(np.linspace(0.0, np.log1p(config.cutoff / SOFTENING), KNOTS))
    r[0], r[-1] = 1e-3 * r[1], config.cutoff  # the limit at 0, where no pair is
    basis = torch.from_numpy(bessel(r / config.cutoff, config.n_bessel)[0])
    out = {name: value for name, value in parameters.items() if ".radial." not in name}
    for i in range(config.layers):
        weights = [weight.double().cpu() for weight in radial_weights(parameters, f"layers.{i}")]
        values = perceptron(basis.expand(len(weights[0]), -1, -1), weights)  # (M, KNOTS, W)
        out[f"layers.{i}.table"] = torch.stack([torch.from_numpy(_coefficients(member.numpy())) for member in values])
    return out


def _coefficients(values: np.ndarray) -> np.ndarray:
    """(KNOTS, W) → (KNOTS + 4, W). Two conditions more at each end: no third and fourth derivative at 0, where no pair
    is, and the exact slope and curvature at the cutoff, zero."""
    nothing = np.zeros(values.shape[1:])
    knots = np.arange(-DEGREE, len(values) + DEGREE, dtype=float)
    ends = [(3, nothing), (4, nothing)], [(1, nothing), (2, nothing)]
    return make_interp_spline(np.arange(len(values)), values, DEGREE, t=knots, bc_type=ends).c
