"""Radial perceptrons as tables: at prediction the path weights are functions of one distance.

Quintic Hermite pieces on a grid of [0, r_c]: the value of every knot and its two exact derivatives, so the
table has two continuous derivatives. Forces are exact derivatives of the tabulated energy.
"""

import numpy as np
import torch
from torch import Tensor

from race_calc.model.config import ModelConfig
from race_calc.model.parameters import Parameters, radial_weights
from race_calc.model.radial import SILU_GAIN, bessel

KNOTS = 768
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
    """The parameters with `layers.i.table` (M, KNOTS, 3, W) in place of `layers.i.radial.k`.

    The last axis but one holds the value and its derivatives to the place. The tables are float64 on the CPU.
    """
    step = np.log1p(config.cutoff / SOFTENING) / (KNOTS - 1)
    r = SOFTENING * np.expm1(step * np.arange(KNOTS))
    r[0] = 1e-3 * r[1]  # the limit at 0, where no pair is
    dr = (step * (r + SOFTENING) / config.cutoff)[:, None]  # dx/dplace of x = r / r_c; the second derivative is step · dr
    value, slope, bend = bessel(r / config.cutoff, config.n_bessel)
    basis = [torch.tensor(array) for array in (value, slope * dr, bend * dr**2 + slope * step * dr)]
    out = {name: value for name, value in parameters.items() if ".radial." not in name}
    for i in range(config.layers):
        weights = radial_weights(parameters, f"layers.{i}")
        members = [_perceptron(*basis, [w.double().cpu() for w in member]) for member in zip(*weights)]
        out[f"layers.{i}.table"] = torch.stack(members)
    return out


def _perceptron(x: Tensor, dx: Tensor, ddx: Tensor, weights: list[Tensor]) -> Tensor:
    """One member's perceptron with its first and second derivative along the grid: (K, n_in) → (K, 3, W)."""
    for k, weight in enumerate(weights):
        x, dx, ddx = (value @ weight / len(weight) ** 0.5 for value in (x, dx, ddx))
        if k < len(weights) - 1:  # SiLU s(x) = x σ(x): s' = σ + x σ', s'' = 2 σ' + x σ''
            gate = torch.sigmoid(x)
            slope = gate * (1 - gate)
            first, second = gate + x * slope, slope * (2 + x * (1 - 2 * gate))
            x, dx, ddx = SILU_GAIN * x * gate, SILU_GAIN * first * dx, SILU_GAIN * (first * ddx + second * dx**2)
    return torch.stack([x, dx, ddx], dim=1)
