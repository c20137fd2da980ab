"""BALD against the entropies of SciPy's Gaussians."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from race_calc.uncertainty.bald import bald_energy, bald_forces


def spread(members, seed, scale=1.0):
    """Members (M, 4) and (M, 4, 3) with their covariances."""
    rng = np.random.default_rng(seed)
    energy = scale * rng.normal(size=(members, 4))
    forces = scale * rng.normal(size=(members, 4, 3))
    root = rng.normal(size=(members, 4, 3, 3))
    covariance = root @ root.swapaxes(-1, -2) + 0.01 * np.eye(3)
    return energy, forces, rng.uniform(0.01, 2.0, size=(members, 4)), covariance


def population(forces):
    return np.stack([np.cov(forces[:, i].T, ddof=0) for i in range(forces.shape[1])])


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000))
def test_is_total_entropy_minus_mean_entropy_of_the_members(members, seed):
    energy, forces, variance, covariance = spread(members, seed)
    epistemic = energy.var(axis=0)
    expected = norm(scale=np.sqrt(variance.mean(0) + epistemic)).entropy() - np.mean(
        [norm(scale=np.sqrt(v)).entropy() for v in variance], axis=0
    )
    np.testing.assert_allclose(bald_energy(epistemic, variance), expected, rtol=1e-9, atol=1e-12)

    epistemic = population(forces)
    values = bald_forces(epistemic, covariance)
    for i in range(4):
        total = multivariate_normal(cov=covariance[:, i].mean(0) + epistemic[i]).entropy()
        mean = np.mean([multivariate_normal(cov=c).entropy() for c in covariance[:, i]])
        assert values[i] == pytest.approx(total - mean, rel=1e-9, abs=1e-11)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(0, 10_000), st.floats(0.0, 1e-6))
def test_is_never_negative(members, seed, scale):
    energy, forces, variance, covariance = spread(members, seed, scale)
    nearly_same = np.broadcast_to(covariance[:1] * 1e-6, covariance.shape)
    assert (bald_energy(energy.var(axis=0), np.broadcast_to(variance[:1], variance.shape)) >= 0).all()
    assert (bald_forces(population(np.concatenate([forces, forces])), nearly_same) >= 0).all()


def test_is_zero_for_identical_members():
    _, _, variance, covariance = spread(1, 3)
    np.testing.assert_allclose(bald_energy(np.zeros(4), np.repeat(variance, 5, axis=0)), 0.0, atol=1e-14)
    np.testing.assert_allclose(bald_forces(np.zeros((4, 3, 3)), np.repeat(covariance, 5, axis=0)), 0.0, atol=1e-13)


def test_disagreement_in_the_variance_alone_counts():
    assert bald_energy(np.zeros(1), np.array([[0.1], [10.0]]))[0] == pytest.approx(0.5 * np.log(5.05))


def test_tiny_and_huge_covariances_do_not_under_or_overflow():
    eye = np.tile(np.eye(3), (2, 1, 1, 1))
    for scale in (1e-150, 1e150):
        expected = 0.5 * 3 * np.log(2.0)
        assert bald_forces(scale * np.eye(3)[None], scale * eye)[0] == pytest.approx(expected)


def test_none_without_an_aleatoric_part():
    assert bald_energy(np.ones(3), None) is None
    assert bald_forces(np.ones((3, 3, 3)), None) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_what_is_not_a_variance_gives_nan_and_no_exception(bad):
    variance = np.ones((2, 3))
    variance[1, 0] = bad
    np.testing.assert_array_equal(np.isfinite(bald_energy(np.ones(3), variance)), [False, True, True])
    covariance = np.tile(np.eye(3), (2, 3, 1, 1))
    covariance[1, 0] = np.diag([bad, 1.0, 1.0])
    values = bald_forces(np.tile(np.eye(3), (3, 1, 1)), covariance)
    np.testing.assert_array_equal(np.isfinite(values), [False, True, True])
