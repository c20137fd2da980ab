"""Radial basis with its cutoff, and the radial perceptron that turns it into path weights."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import silu

from race_calc.model.cutoff import envelope

SILU_GAIN = 1.6791767923989418  # e3nn's number that makes the second moment of SiLU(N(0, 1)) one


def bessel(x: np.ndarray, n_bessel: int) -> tuple[np.ndarray, np.ndarray]:
    """B_n(x) = √2 sin(nπx)/x · u(x), n = 1 … n_bessel, of x = r / r_c (E,), with dB_n/dx.

    u: `race_calc.model.cutoff`; value, slope and curvature vanish at x = 1. Returns two arrays (E, n_bessel).
    """
    k = np.pi * np.arange(1, n_bessel + 1)
    x = x[:, None]
    u, du = envelope(x)
    wave = np.sqrt(2) * np.sin(x * k) / x
    dwave = (np.sqrt(2) * k * np.cos(x * k) - wave) / x
    return wave * u, dwave * u + wave * du


def scaled_silu(x: Tensor) -> Tensor:
    return silu(x) * SILU_GAIN


def perceptron(x: Tensor, weights: list[Tensor]) -> Tensor:
    """Bias-free perceptron per member: (M, E, n_in) → (M, E, n_out); SiLU between layers, none at the end.

    Each weight is (M, n_in, n_out) and is divided by √n_in. Without biases the output vanishes with
    its input, so messages vanish at the cutoff.
    """
    for i, weight in enumerate(weights):
        x = torch.bmm(x, weight / weight.shape[1] ** 0.5)
        if i < len(weights) - 1:
            x = scaled_silu(x)
    return x
