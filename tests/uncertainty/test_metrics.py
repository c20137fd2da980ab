"""Metrics against closed forms, SciPy's densities and exact Gaussian samples."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, multivariate_normal, norm

from race_calc.uncertainty.metrics import (
    LEVELS,
    NOMINAL_LEVELS,
    calibration_error,
    calibration_floor,
    chi_square_pit,
    coverage,
    gaussian_nll,
    gaussian_pit,
    level_error,
    mae,
    mahalanobis,
    mean_sigma,
    observed_levels,
    rmse,
    sharpness,
    vector_nll,
    whitened_calibration_error,
)


def drawn(sigma, seed=0):
    """One vector from N(0, Σ) for each Σ."""
    z = np.random.default_rng(seed).normal(size=sigma.shape[:-1])
    return np.einsum("nij,nj->ni", np.linalg.cholesky(sigma), z)


def covariances(n, seed=0):
    root = np.random.default_rng(seed).normal(size=(n, 3, 3))
    return root @ root.swapaxes(-1, -2) + 0.1 * np.eye(3)


def test_errors_of_known_numbers():
    assert rmse([3.0, -4.0]) == pytest.approx(np.sqrt(12.5), rel=1e-15)
    assert mae([[3.0], [-4.0]]) == 3.5
    assert mean_sigma([[1.0, 2.0], [3.0, 6.0]]) == 3.0


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20), st.integers(0, 10_000))
def test_nll_is_scipys_density(n, seed):
    rng = np.random.default_rng(seed)
    difference, variance = rng.normal(size=n), rng.uniform(0.01, 4.0, size=n)
    assert gaussian_nll(difference, variance) == pytest.approx(-norm.logpdf(difference, scale=np.sqrt(variance)).mean())
    vectors, sigma = rng.normal(size=(n, 3)), covariances(n, seed)
    expected = -np.mean([multivariate_normal.logpdf(d, cov=s) for d, s in zip(vectors, sigma)])
    assert vector_nll(vectors, sigma) == pytest.approx(expected, rel=1e-9)


def test_nll_includes_the_constant():
    assert gaussian_nll([0.0], [1.0]) == pytest.approx(0.5 * np.log(2 * np.pi))
    assert vector_nll(np.zeros((1, 3)), np.eye(3)[None]) == pytest.approx(1.5 * np.log(2 * np.pi))


def test_vector_nll_with_diagonal_covariance_is_the_sum_over_components():
    rng = np.random.default_rng(1)
    difference, variance = rng.normal(size=(7, 3)), rng.uniform(0.1, 2.0, size=(7, 3))
    diagonal = variance[..., None] * np.eye(3)
    assert vector_nll(difference, diagonal) == pytest.approx(3 * gaussian_nll(difference, variance), rel=1e-12)


def test_vector_nll_does_not_depend_on_the_orientation():
    rng = np.random.default_rng(2)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    difference, sigma = rng.normal(size=(5, 3)), covariances(5)
    turned = vector_nll(difference @ q.T, q @ sigma @ q.T)
    assert turned == pytest.approx(vector_nll(difference, sigma), rel=1e-12)


def test_vector_nll_reads_the_off_diagonal_with_the_right_sign():
    sigma = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]])[None]
    along, across = vector_nll([[1.0, 1.0, 0.0]], sigma), vector_nll([[1.0, -1.0, 0.0]], sigma)
    assert across - along == pytest.approx(1.0 / 0.1 - 1.0 / 1.9)


def test_nll_of_certainty_is_infinite_and_of_nan_is_nan():
    singular = np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])[None]
    assert gaussian_nll([0.1, 0.1], [0.0, 1.0]) == np.inf
    assert vector_nll([[0.1, 0.0, 0.0]], singular) == np.inf
    assert vector_nll([[0.0, 0.0, 0.0]], np.zeros((1, 3, 3))) == np.inf
    assert vector_nll([[0.1, 0.0, 0.0]], -np.eye(3)[None]) == np.inf
    assert np.isnan(gaussian_nll([np.nan, 0.0], [1.0, 1.0])) and np.isnan(gaussian_nll([0.0], [np.nan]))
    assert np.isnan(vector_nll([[0.0, np.nan, 0.0]], np.eye(3)[None]))
    assert np.isnan(vector_nll([[0.0, 0.0, 0.0]], np.full((1, 3, 3), np.nan)))


def test_coverage_of_gaussian_quantiles_is_the_level():
    n = 100_000
    quantiles = norm.ppf((np.arange(n) + 0.5) / n)
    for level in LEVELS:
        assert coverage(2.5 * quantiles, np.full(n, 2.5), level) == pytest.approx(level, abs=2e-5)


def test_coverage_counts_both_sides_and_nan_as_outside():
    difference = np.array([-1.9, 1.9, -2.1, 2.1, np.nan, 0.0])
    std = np.array([1.0, 1.0, 1.0, 1.0, 1.0, np.nan])
    assert coverage(difference, std, 0.95) == pytest.approx(2 / 6)


@pytest.mark.parametrize("level", [0.0, 1.0, 95, -0.1, float("nan")])
def test_coverage_refuses_an_impossible_level(level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        coverage([0.0], [1.0], level)


def test_empty_and_unfit_input_is_refused():
    for call in (
        lambda: rmse([]),
        lambda: mae(np.empty((0, 3))),
        lambda: mean_sigma([]),
        lambda: gaussian_nll([], []),
        lambda: vector_nll(np.empty((0, 3)), np.empty((0, 3, 3))),
        lambda: coverage([], [], 0.9),
    ):
        with pytest.raises(ValueError, match="at least one"):
            call()
    with pytest.raises(ValueError, match="variance has the shape"):
        gaussian_nll([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="std has the shape"):
        coverage([1.0, 2.0], 1.0, 0.9)
    with pytest.raises(ValueError, match="covariance has the shape"):
        vector_nll(np.zeros((4, 3)), np.zeros((4, 3)))


def test_calibration_error_of_known_cases():
    """Exact quantiles are calibrated; σ half as wide against the closed form; far outside on one side gives 1/3."""
    p = (np.arange(20000) + 0.5) / 20000
    exact = norm.ppf(p)
    assert calibration_error(exact, np.ones_like(exact)) < 1e-8
    levels = np.arange(1, 100) / 100
    expected = np.mean((levels - norm.cdf(0.5 * norm.ppf(levels))) ** 2)
    assert calibration_error(exact, np.full_like(exact, 0.5)) == pytest.approx(expected, abs=1e-6)
    assert calibration_error(np.full(10, 1e3), np.ones(10)) == pytest.approx(np.mean(levels**2))
    assert calibration_error(np.full(10, np.nan), np.ones(10)) == pytest.approx(np.mean(levels**2))
    with pytest.raises(ValueError, match="same shape"):
        calibration_error(exact, np.ones(3))


def test_observed_levels_include_their_own_value():
    assert observed_levels([0.5])[[48, 49, 50]].tolist() == [0.0, 1.0, 1.0]
    assert observed_levels([[0.1, 0.2], [np.nan, 1.0]])[-1] == 0.5


def test_sharpness_is_the_error_of_a_calibrated_model():
    assert sharpness([[3.0], [4.0]]) == pytest.approx(np.sqrt(12.5), rel=1e-15)
    q, _ = np.linalg.qr(np.random.default_rng(6).normal(size=(3, 3)))
    sigma = covariances(8)
    found = [sharpness(np.sqrt(np.diagonal(s, axis1=-2, axis2=-1))) for s in (sigma, q @ sigma @ q.T)]
    assert found == pytest.approx([np.sqrt(np.trace(sigma, axis1=1, axis2=2).mean() / 3)] * 2, rel=1e-12)


def test_calibration_error_knows_on_which_side_the_references_lie():
    """A constant bias, seen by one-sided levels; mirrored, the observed levels are mirrored."""
    z = norm.ppf((np.arange(4000) + 0.5) / 4000)
    one, other = gaussian_pit(z + 0.5, np.ones(4000)), gaussian_pit(z - 0.5, np.ones(4000))
    assert np.all(observed_levels(one) < NOMINAL_LEVELS) and np.all(observed_levels(other) > NOMINAL_LEVELS)
    assert level_error(one) == pytest.approx(level_error(other), rel=1e-3)
    expected = norm.cdf(norm.ppf(NOMINAL_LEVELS) - 0.5)
    assert level_error(one) == pytest.approx(np.mean((expected - NOMINAL_LEVELS) ** 2), rel=1e-2)


def test_mahalanobis_is_the_quadratic_form():
    rng = np.random.default_rng(3)
    difference, sigma = rng.normal(size=(9, 3)), covariances(9, 3)
    expected = [d @ np.linalg.inv(s) @ d for d, s in zip(difference, sigma)]
    assert mahalanobis(difference, sigma) == pytest.approx(np.array(expected), rel=1e-10)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    assert mahalanobis(difference @ q.T, q @ sigma @ q.T) == pytest.approx(np.array(expected), rel=1e-10)
    assert mahalanobis([2.0], [[4.0]]) == 1.0
    assert mahalanobis([[1.0, 0.0, 0.0], [np.nan, 0.0, 0.0]], np.array([np.zeros((3, 3)), np.eye(3)])) == pytest.approx(
        [np.inf, np.nan], nan_ok=True
    )


def test_chi_square_pit_is_scipys_distribution_function():
    squared = np.array([[0.0, 0.5], [3.0, 70.0]])
    for k in (1, 2, 3):
        assert chi_square_pit(squared, k) == pytest.approx(chi2.cdf(squared, k), rel=1e-12)
    assert chi_square_pit([np.inf])[0] == 1.0 and np.isnan(chi_square_pit([np.nan])[0])


def test_whitened_calibration_sees_directions_that_components_do_not():
    """Σ is at the floor. Mirrored, or without its off-diagonal, it has the right components but wrong directions."""
    n = 20_000
    root = np.array([[1.0, 0.0, 0.0], [0.9, 0.3, 0.0], [0.8, 0.1, 0.2]])
    sigma = np.broadcast_to(root @ root.T, (n, 3, 3))
    difference = drawn(sigma, 4)
    flip = np.diag([-1.0, 1.0, 1.0])
    assert whitened_calibration_error(difference, sigma) < 10 * calibration_floor(np.inf, n)
    for wrong in (flip @ sigma @ flip, sigma * np.eye(3)):
        std = np.sqrt(np.diagonal(wrong, axis1=-2, axis2=-1))
        assert calibration_error(difference, std) < 10 * calibration_floor(np.inf, n)
        assert whitened_calibration_error(difference, wrong) > 0.005
    assert whitened_calibration_error(difference, 0.0 * sigma) == pytest.approx(np.mean(NOMINAL_LEVELS**2))


@pytest.mark.parametrize("n_calibration, n_test", [(np.inf, 40), (np.inf, 1), (30, 60)])
def test_floor_is_the_mean_calibration_error_of_a_perfect_model(n_calibration, n_test):
    """Over many sets of frames; with n_calibration, against the levels observed in an independent set."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(2000):
        aim = NOMINAL_LEVELS if np.isinf(n_calibration) else observed_levels(rng.uniform(size=n_calibration))
        found.append(np.mean((observed_levels(rng.uniform(size=n_test)) - aim) ** 2))
    assert np.mean(found) == pytest.approx(calibration_floor(n_calibration, n_test), rel=0.06)


def test_floor_refuses_no_frames_and_the_rest_empty_input():
    for pair in ((0, 10), (10, 0), (np.nan, 10)):
        with pytest.raises(ValueError, match="at least one frame"):
            calibration_floor(*pair)
    for call in (
        lambda: sharpness([]),
        lambda: observed_levels([]),
        lambda: chi_square_pit([]),
        lambda: gaussian_pit([], []),
        lambda: mahalanobis(np.empty((0, 3)), np.empty((0, 3, 3))),
    ):
        with pytest.raises(ValueError, match="at least one"):
            call()


def test_one_frame_has_a_floor():
    assert calibration_floor(1, 1) == pytest.approx(1 / 3) and calibration_floor(math.inf, 1) == pytest.approx(1 / 6)
    for wrong in ((0.9, 1), (1, 0.9)):
        with pytest.raises(ValueError, match="at least one frame"):
            calibration_floor(*wrong)
