"""Radial basis, cutoff and the radial perceptron."""

import numpy as np
import torch
from e3nn.nn import FullyConnectedNet

from race_calc.model.radial import bessel, perceptron

X = np.linspace(0.05, 0.99, 60)


def test_values():
    values, *_ = bessel(X, 8)
    n = np.arange(1, 9)
    expected = np.sqrt(2) * np.sin(n * np.pi * X[:, None]) / X[:, None]
    expected *= (1 - 6 * X**2 + 8 * X**3 - 3 * X**4)[:, None]
    np.testing.assert_allclose(values, expected, atol=1e-14)


def test_derivative():
    h = 1e-4
    at = [bessel(X + k * h, 8)[0] for k in (-2, -1, 1, 2)]
    numeric = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
    np.testing.assert_allclose(bessel(X, 8)[1], numeric, rtol=0, atol=1e-8 * np.abs(numeric).max())


def test_value_slope_and_curvature_vanish_at_the_cutoff():
    """B falls as (1 - x)³ · sin(nπx) ~ (1 - x)⁴: value, slope and curvature are zero at x = 1, and beyond."""
    for x in (np.array([1.0]), np.array([1.2, 3.0])):
        values, slopes = bessel(x, 8)
        assert np.abs(values).max() < 1e-14 and np.abs(slopes).max() < 1e-12
    for delta in (1e-2, 1e-3):
        values, slopes = bessel(np.array([1 - delta]), 8)
        assert np.abs(values).max() < 4 * 36 * 8 * delta**4  # 4 (1 - x)³ √2 n π (1 - x), n ≤ 8
        assert np.abs(slopes).max() < 4 * 4 * 36 * 8 * delta**3
        curvature = slopes / -delta  # difference quotient to the slope at 1, which is 0
        assert np.abs(curvature).max() < 4 * 4 * 36 * 8 * delta**2


def test_perceptron_is_that_of_e3nn():
    net = FullyConnectedNet([5, 7, 6, 4], torch.nn.functional.silu).double()
    weights = [layer.weight.detach()[None] for layer in net.children()]
    x = torch.randn(9, 5, dtype=torch.float64)
    torch.testing.assert_close(perceptron(x[None], weights)[0], net(x).detach(), rtol=1e-12, atol=1e-13)
    assert perceptron(torch.zeros(1, 2, 5, dtype=torch.float64), weights).count_nonzero() == 0
