"""Radial basis with its cutoff, and the radial perceptron that turns it into path weights."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import silu

SILU_GAIN = 1.6791767923989418  # e3nn's number that makes the second moment of SiLU(N(0, 1)) one


def bessel(x: np.ndarray, n_bessel: int) -> tuple[np.ndarray, np.ndarray]:
    """B_n(x) = √2 sin(nπx)/x · u(x), n = 1 … n_bessel, and dB_n/dx, of x = r / r_c (E,).

    u(x) = 1 - 6x² + 8x³ - 3x⁴ for x < 1 and 0 beyond: value, slope and curvature vanish at x = 1.
    Returns two arrays (E, n_bessel).
    """
    k = np.pi * np.arange(1, n_bessel + 1)
    inside = x < 1
    u = np.where(inside, 1 - 6 * x**2 + 8 * x**3 - 3 * x**4, 0.0)[:, None]
    du = np.where(inside, -12 * x + 24 * x**2 - 12 * x**3, 0.0)[:, None]
    wave = np.sqrt(2) * np.sin(x[:, None] * k) / x[:, None]
    dwave = np.sqrt(2) * k * np.cos(x[:, None] * k) / x[:, None] - wave / x[:, None]
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
