"""Rank correlations against SciPy, and the ceiling against its limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from race_calc.uncertainty.ranking import force_rank_ceiling, force_rank_correlation, rank_correlation

pairs = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30)


def sigmas(n, spread, seed=0):
    """Covariances whose scales differ by factors of about exp(spread)."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, 3, 3)) * np.exp(spread * rng.normal(size=(n, 1, 1)))
    return root @ root.swapaxes(-1, -2)


@settings(max_examples=40, deadline=None)
@given(pairs)
@pytest.mark.filterwarnings("ignore::scipy.stats.ConstantInputWarning")
def test_equals_scipy_with_ties(values):
    a, b = np.array(values, dtype=float).T
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12, nan_ok=True)


def test_only_the_order_counts_and_nan_passes():
    a = np.random.default_rng(0).normal(size=(20, 2))
    assert rank_correlation(a, np.exp(a)) == pytest.approx(1.0)
    assert rank_correlation(a, -(a**3)) == pytest.approx(-1.0)
    assert np.isnan(rank_correlation([1.0, np.nan], [1.0, 2.0])) and np.isnan(rank_correlation([1.0, 1.0], [1.0, 2.0]))
    assert rank_correlation([1.0, np.inf], [1.0, 2.0]) == 1.0


def test_force_correlation_uses_trace_and_norm_and_no_direction():
    rng = np.random.default_rng(1)
    sigma, difference = sigmas(50, 0.7), rng.normal(size=(50, 3))
    expected = spearmanr(np.sqrt(np.trace(sigma, axis1=1, axis2=2)), np.linalg.norm(difference, axis=1)).statistic
    assert force_rank_correlation(difference, sigma) == pytest.approx(expected, abs=1e-12)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = force_rank_correlation(difference @ q.T, q @ sigma @ q.T)
    assert turned == pytest.approx(expected, abs=1e-3)  # not exact: rounding may swap two ranks


def test_a_model_that_is_right_reaches_the_ceiling():
    sigma = sigmas(4000, 0.8)
    z = np.random.default_rng(2).normal(size=(4000, 3))
    own = force_rank_correlation(np.einsum("nij,nj->ni", np.linalg.cholesky(sigma), z), sigma)
    ceiling = force_rank_ceiling(sigma)
    assert own == pytest.approx(ceiling, abs=0.02) and 0.5 < ceiling < 0.9
    assert ceiling == force_rank_ceiling(sigma) != force_rank_ceiling(sigma, seed=1)
    assert force_rank_ceiling(100.0 * sigma) == pytest.approx(ceiling, abs=1e-12)
    shuffled = sigma[np.random.default_rng(3).permutation(4000)]
    assert abs(force_rank_correlation(np.einsum("nij,nj->ni", np.linalg.cholesky(sigma), z), shuffled)) < 0.05


def test_ceiling_rises_with_the_spread_of_sigma_and_is_zero_without():
    equal = np.broadcast_to(np.eye(3), (2000, 3, 3)) * (1 + 1e-6 * np.arange(2000)[:, None, None])
    found = [force_rank_ceiling(equal)] + [force_rank_ceiling(sigmas(2000, spread)) for spread in (0.5, 1.0, 3.0)]
    assert abs(found[0]) < 0.05 and np.all(np.diff(found) > 0.05) and found[-1] > 0.9


def test_errors_are_drawn_with_the_whole_covariance(monkeypatch):
    """The draws have Σ as covariance, off-diagonal and sign included."""
    seen = []
    monkeypatch.setattr("race_calc.uncertainty.ranking.force_rank_correlation", lambda d, s: seen.append(d) or 0.0)
    one = np.array([[1.0, -0.8, 0.3], [-0.8, 2.0, 0.0], [0.3, 0.0, 0.5]])
    force_rank_ceiling(np.broadcast_to(one, (20_000, 3, 3)))
    assert np.cov(np.concatenate(seen).T) == pytest.approx(one, abs=0.02)


def test_singular_and_broken_covariances():
    flat = np.array([np.diag([1.0, 0.0, 0.0]), np.eye(3), np.diag([3.0, 2.0, -1e-18])])
    assert -1.0 <= force_rank_ceiling(flat) <= 1.0
    assert np.isnan(force_rank_ceiling(np.full((2, 3, 3), np.nan)))


def test_impossible_input_is_refused():
    for call in (
        lambda: rank_correlation([1.0], [1.0]),
        lambda: rank_correlation([1.0, 2.0], [1.0, 2.0, 3.0]),
        lambda: force_rank_ceiling(np.eye(3)[None]),
    ):
        with pytest.raises(ValueError, match="two values or more|two of one shape"):
            call()
    with pytest.raises(ValueError, match="one k × k matrix for each vector"):
        force_rank_correlation(np.ones((4, 3)), np.ones((5, 3, 3)))
    with pytest.raises(ValueError, match=r"give \(N, 3, 3\)"):
        force_rank_ceiling(np.ones((5, 3)))
    for shape in ((3, 3), (4, 3, 2)):
        with pytest.raises(ValueError, match=r"give \(N, 3, 3\)"):
            force_rank_ceiling(np.ones(shape))
