"""exp of symmetric matrices in C against eigenvalues by NumPy."""

import numpy as np
import pytest

from race_calc.model.kernels import symmetric
from race_calc.model.kernels.symmetric import symmetric_exponential

pytestmark = pytest.mark.usefixtures("kernels")


@pytest.mark.parametrize("k", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [1e-9, 1.0, 20.0])
def test_as_by_eigenvalues(k, size):
    m = np.random.default_rng(k).normal(size=(4, 50, k, k)) * size
    m = m + m.swapaxes(-1, -2)
    expected = symmetric._by_numpy(m)
    scale = np.abs(expected).max(axis=(-2, -1), keepdims=True)
    assert (np.abs(symmetric_exponential(m) - expected) / scale).max() < 1e-12


def test_special_matrices():
    alike = np.array([np.zeros((3, 3)), np.eye(3), np.diag([1.0, 1.0, 2.0]), np.full((3, 3), 1.0)])
    np.testing.assert_allclose(symmetric_exponential(alike), symmetric._by_numpy(alike), rtol=1e-13, atol=1e-13)
    huge = np.diag([-1e200, 0.0, 1.0])
    np.testing.assert_allclose(symmetric_exponential(huge), np.diag([0.0, 1.0, np.e]), rtol=1e-14)


@pytest.mark.parametrize("k", [3, 6])
def test_no_eigenvalue_is_above_a_thousand_squared(k):
    """So that nothing overflows far from the training; small ones are as they are, and it turns with the matrix."""
    m = np.random.default_rng(k).normal(size=(40, k, k)) * 300
    m = m + m.swapaxes(-1, -2)
    found = symmetric_exponential(m)
    expected = np.exp(np.minimum(np.linalg.eigvalsh(m)[:, -1], 2 * np.log(1e3)))
    np.testing.assert_allclose(np.linalg.eigvalsh(found)[:, -1], expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(symmetric._by_numpy(m), found, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(symmetric_exponential(np.diag([-2.0, 13.0, 900.0])), np.diag(np.exp([-2.0, 13.0, 2 * np.log(1e3)])))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_nan_alone(value):
    m = np.stack([np.eye(3), np.eye(3)])
    m[0, 1, 2] = m[0, 2, 1] = value
    found = symmetric_exponential(m)
    assert np.isnan(found[0]).all() and np.allclose(found[1], np.e * np.eye(3))


def test_larger_ones_by_numpy(monkeypatch):
    m = np.diag(np.arange(7.0))
    np.testing.assert_allclose(symmetric_exponential(m), np.diag(np.exp(np.arange(7.0))))
    monkeypatch.setattr(symmetric, "problem", lambda: "no library")
    np.testing.assert_allclose(symmetric_exponential(np.eye(3)), np.e * np.eye(3))
