"""Scales against closed forms, level maps against exact distributions."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, norm, t

from race_calc.uncertainty.conformal import conformal_quantile
from race_calc.uncertainty.level_map import INTERVALS, LevelMap, central_interval, ellipsoid_radius, fit_level_map
from race_calc.uncertainty.metrics import (
    NOMINAL_LEVELS,
    calibration_error,
    calibration_floor,
    chi_square_pit,
    gaussian_nll,
    gaussian_pit,
    level_error,
    mahalanobis,
    observed_levels,
    vector_nll,
)
from race_calc.uncertainty.scaling import covariance_scale, variance_scale

levels = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0])), min_size=1, max_size=40)


def vectors(n, seed=0):
    """Covariances of random shape and size, and one vector drawn from each."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, 3, 3)) * np.exp(0.5 * rng.normal(size=(n, 1, 1)))
    sigma = root @ root.swapaxes(-1, -2) + 0.05 * np.eye(3)
    return np.einsum("nij,nj->ni", np.linalg.cholesky(sigma), rng.normal(size=(n, 3))), sigma


def test_variance_scale_is_the_minimum_of_the_likelihood():
    rng = np.random.default_rng(0)
    variance = rng.uniform(0.1, 3.0, size=(50, 3))
    difference = 3.0 * rng.normal(size=(50, 3)) * np.sqrt(variance)
    c = variance_scale(difference, variance)
    assert c == pytest.approx(np.mean(difference**2 / variance), rel=1e-14)
    least = gaussian_nll(difference, c * variance)
    assert all(gaussian_nll(difference, factor * c * variance) > least for factor in (0.98, 1.02))
    assert variance_scale([2.0, -2.0], [1.0, 1.0]) == 4.0
    assert variance_scale(difference, c * variance) == pytest.approx(1.0, rel=1e-14)


def test_covariance_scale_is_the_minimum_of_the_likelihood():
    difference, sigma = vectors(40)
    c = covariance_scale(2.0 * difference, sigma)
    expected = [4.0 * d @ np.linalg.solve(s, d) / 3.0 for d, s in zip(difference, sigma)]
    assert c == pytest.approx(np.mean(expected), rel=1e-10)
    least = vector_nll(2.0 * difference, c * sigma)
    assert all(vector_nll(2.0 * difference, factor * c * sigma) > least for factor in (0.98, 1.02))
    diagonal = np.eye(3) * np.array([1.0, 2.0, 3.0])
    assert covariance_scale(difference, np.broadcast_to(diagonal, sigma.shape)) == pytest.approx(
        variance_scale(difference, np.broadcast_to([1.0, 2.0, 3.0], difference.shape)), rel=1e-12
    )


def test_a_scaled_covariance_stays_one_and_turns_with_the_molecule():
    difference, sigma = vectors(30, 1)
    q, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    c = covariance_scale(3.0 * difference, sigma)
    assert np.all(np.linalg.eigvalsh(c * sigma) > 0)
    for turn in (q, -q):
        turned = covariance_scale(3.0 * difference @ turn.T, turn @ sigma @ turn.T)
        assert turned == pytest.approx(c, rel=1e-10)
        assert turned * (turn @ sigma @ turn.T) == pytest.approx(turn @ (c * sigma) @ turn.T, rel=1e-9, abs=1e-12)


def test_scaling_brings_a_wrong_gaussian_to_its_floor():
    """σ three times too small: mean of 50 sets of 200 for calibration and 100 for the test."""
    rng, before, after = np.random.default_rng(3), [], []
    for _ in range(50):
        calibration, test = 3.0 * rng.normal(size=200), 3.0 * rng.normal(size=100)
        c = variance_scale(calibration, np.ones(200))
        before.append(calibration_error(test, np.ones(100)))
        after.append(calibration_error(test, np.full(100, np.sqrt(c))))
    assert np.mean(before) > 0.02
    assert np.mean(after) < 1.3 * calibration_floor(200, 100)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: 3.0 * rng.normal(size=n),
        lambda rng, n: 0.3 * rng.normal(size=n) + 0.5,
        lambda rng, n: 2.0 * rng.standard_t(3, size=n),
        lambda rng, n: rng.exponential(size=n) - 1.0,
    ],
)
def test_level_map_brings_any_distribution_to_its_floor(draw):
    """Too narrow, too wide and biased, heavy tailed, skew: the mean of 60 sets is the floor, within its scatter."""
    rng, before, after = np.random.default_rng(4), [], []
    for _ in range(60):
        level_map = fit_level_map(gaussian_pit(draw(rng, 150), np.ones(150)))
        pit = gaussian_pit(draw(rng, 100), np.ones(100))
        before.append(level_error(pit))
        after.append(level_error(level_map.observed(pit)))
    assert np.mean(after) == pytest.approx(calibration_floor(150, 100), rel=0.35)
    assert np.mean(before) > 3.0 * np.mean(after)


def test_ellipsoids_hold_their_share_after_scale_and_level_map():
    """Vectors of a Student distribution with a Σ that is too small; the same draws by halves."""
    difference, sigma = vectors(8000, 5)
    difference *= 2.0 / np.sqrt(np.random.default_rng(6).chisquare(4, size=(8000, 1)) / 4)
    c = covariance_scale(difference[:4000], sigma[:4000])
    squared = mahalanobis(difference, c * sigma)
    level_map = fit_level_map(chi_square_pit(squared[:4000]))
    for level in (0.5, 0.68, 0.95):
        found = np.mean(squared[4000:] <= ellipsoid_radius(level, level_map) ** 2)
        assert found == pytest.approx(level, abs=0.02)
    assert abs(np.mean(squared[4000:] <= ellipsoid_radius(0.5) ** 2) - 0.5) > 0.1


def test_intervals_of_the_identity_are_gaussian():
    for level in (0.1, 0.68, 0.95):
        assert central_interval(level) == pytest.approx(norm.interval(level), rel=1e-12)
        for k in (1, 2, 3):
            assert ellipsoid_radius(level, k=k) == pytest.approx(np.sqrt(chi2.ppf(level, k)), rel=1e-10)
    assert ellipsoid_radius(0.9, k=1) == pytest.approx(central_interval(0.9)[1], rel=1e-10)


def test_intervals_of_exact_quantiles_are_those_of_their_distribution():
    """z = Student quantiles, skewed by a shift of 0.3; the sign is that of reference − prediction."""
    n = 4999
    z = t.ppf(np.arange(1, n + 1) / (n + 1), 3) + 0.3
    level_map = fit_level_map(gaussian_pit(z, np.ones(n)))
    for level in (0.5, 0.9, 0.98):
        low, high = central_interval(level, level_map)
        assert (low, high) == pytest.approx(t.interval(level, 3, loc=0.3), rel=2e-3)
        assert np.mean((low <= z) & (z <= high)) == pytest.approx(level, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(levels, levels, st.booleans())
def test_map_is_monotone_and_keeps_the_ends(pit, ask, back):
    level_map = fit_level_map(pit)
    found = (level_map.nominal if back else level_map.observed)(np.sort(ask))
    assert np.all(np.diff(found) >= -1e-15) and np.all((found >= 0.0) & (found <= 1.0))
    for way in (level_map.nominal, level_map.observed):
        assert way(0.0) == 0.0 and way(1.0) == 1.0


@settings(max_examples=60, deadline=None)
@given(levels, levels)
def test_nominal_is_the_smallest_level_that_observes_the_share(pit, ask):
    """The two are inverse; where several values are equal the map jumps, and observed(nominal(p)) is beyond p."""
    level_map, ask = fit_level_map(np.round(pit, 6)), np.array(ask)  # no closer than a float resolves
    nominal = level_map.nominal(ask)
    inside = nominal > 0.0  # observed(0) is 0, even where values lie at 0
    assert np.all(level_map.observed(nominal)[inside] >= ask[inside] - 1e-9)
    assert np.all(level_map.observed(np.maximum(nominal[inside] - 1e-9, 0.0)) <= ask[inside] + 1e-12)
    distinct = fit_level_map((np.argsort(np.argsort(pit)) + 0.7) / (len(pit) + 0.3))
    assert distinct.observed(distinct.nominal(ask)) == pytest.approx(ask, abs=1e-12)
    assert distinct.nominal(distinct.observed(ask)) == pytest.approx(ask, abs=1e-12)


def test_map_agrees_with_the_conformal_quantile():
    """At the levels k/(n + 1) both give the k-th smallest value."""
    scores = np.abs(np.random.default_rng(8).standard_t(3, size=19))
    level_map = fit_level_map(chi_square_pit(scores**2, 1))
    for level in (0.05, 0.5, 0.9, 0.95):
        expected = conformal_quantile(scores, level).quantile
        assert ellipsoid_radius(level, level_map, k=1) == pytest.approx(expected, rel=1e-7)


def test_equal_values_jump_and_what_lies_beyond_all_levels_is_infinite():
    """Three of nine at 0.5; no finite interval covers values so far out that their level is 0 or 1."""
    level_map = fit_level_map([0.1, 0.2, 0.3, 0.5, 0.5, 0.5, 0.7, 0.8, 0.9])
    assert level_map.observed([0.3, 0.4, 0.5, 0.6]) == pytest.approx([0.3, 0.35, 0.6, 0.65])
    assert level_map.nominal([0.4, 0.5, 0.6]) == pytest.approx([0.5, 0.5, 0.5])
    beyond = fit_level_map(gaussian_pit(np.r_[np.zeros(40), np.full(20, 30.0), np.full(20, -50.0)], np.ones(80)))
    assert central_interval(0.9, beyond) == (-np.inf, np.inf)
    far = fit_level_map(chi_square_pit(np.r_[np.ones(40), np.full(20, 900.0)]))
    assert ellipsoid_radius(0.5, far) < np.inf == ellipsoid_radius(0.9, far)


def test_large_sets_are_thinned_without_harm():
    pit = np.random.default_rng(9).beta(2.0, 1.0, size=20_000)
    level_map = fit_level_map(pit.reshape(-1, 2))
    assert len(level_map.knots) == INTERVALS + 1 and len(fit_level_map(pit[:9]).knots) == 11
    exact = np.searchsorted(np.sort(pit), NOMINAL_LEVELS) / 20_000
    assert level_map.observed(NOMINAL_LEVELS) == pytest.approx(exact, abs=1e-3)
    assert observed_levels(level_map.observed(pit)) == pytest.approx(NOMINAL_LEVELS, abs=2e-3)


@settings(max_examples=20, deadline=None)
@given(levels)
def test_map_survives_json(pit):
    level_map = fit_level_map(pit)
    assert LevelMap.from_dict(json.loads(json.dumps(asdict(level_map), allow_nan=False))) == level_map


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"knots": None},
        {"knots": [0.0]},
        {"knots": [0.1, 1.0]},
        {"knots": [0.0, 0.9]},
        {"knots": [0.0, 0.6, 0.4, 1.0]},
        {"knots": [0.0, float("nan"), 1.0]},
    ],
)
def test_a_broken_map_is_not_read(state):
    with pytest.raises(ValueError, match="calibrate the model again"):
        LevelMap.from_dict(state)


def test_impossible_input_is_refused():
    difference, sigma = vectors(5)
    for call, message in [
        (lambda: variance_scale([1.0, 1.0], [1.0, 0.0]), "1 of 2 variances"),
        (lambda: variance_scale([1.0, 1.0], [np.inf, np.nan]), "2 of 2 variances"),
        (lambda: variance_scale([1.0, np.nan], [1.0, 1.0]), "no scale"),
        (lambda: variance_scale([0.0, 0.0], [1.0, 1.0]), "no scale"),
        (lambda: variance_scale([], []), "at least one"),
        (lambda: variance_scale([1.0], 1.0), "same shape"),
        (lambda: covariance_scale(difference, sigma * np.diag([1.0, 1.0, 0.0])), "5 of 5"),
        (lambda: covariance_scale(difference * np.nan, sigma), "no scale"),
        (lambda: covariance_scale(difference, sigma[:4]), "one k × k matrix"),
        (lambda: fit_level_map([]), "at least one"),
        (lambda: fit_level_map([0.1, np.nan]), "1 of 2 levels are NaN"),
        (lambda: fit_level_map([0.1, 1.1]), "between 0 and 1"),
        (lambda: fit_level_map([0.5]).observed(-0.1), "between 0 and 1"),
        (lambda: fit_level_map([0.5]).nominal(90.0), "between 0 and 1"),
        (lambda: central_interval(1.0), "give a probability"),
        (lambda: ellipsoid_radius(0.0), "give a probability"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    assert np.isnan(fit_level_map([0.5]).observed(np.nan))


def test_one_singular_covariance_is_told_from_the_scale():
    covariance = np.tile(np.eye(3), (4, 1, 1))
    covariance[2, 2, 2] = 0.0
    with pytest.raises(ValueError, match="1 of 4 covariances are not positive definite"):
        covariance_scale(np.ones((4, 3)), covariance)
