"""Conformal quantiles: their coverage is exact at every size, and scatters as the beta-binomial says."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, betabinom

from race_calc.uncertainty.conformal import ConformalQuantile, conformal_quantile, coverage_band, frames_needed

percents = st.integers(1, 99)


def rank(n, percent):
    """⌈(n + 1) p⌉ in whole numbers."""
    return -((-(n + 1) * percent) // 100)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 400), percents, st.integers(0, 10_000))
def test_is_the_corrected_order_statistic(n, percent, seed):
    scores = np.random.default_rng(seed).normal(size=n) ** 2
    found, k = conformal_quantile(scores, percent / 100), rank(n, percent)
    assert found.quantile == (np.sort(scores)[k - 1] if k <= n else math.inf)
    assert math.isfinite(found.quantile) == (k <= n) == (n >= frames_needed(percent / 100))
    assert found == conformal_quantile(scores[::-1], percent / 100)


@pytest.mark.parametrize("n", [1, 4, 9, 19, 20, 33])
@pytest.mark.parametrize("percent", [10, 50, 55, 90, 95])
def test_each_of_n_plus_1_left_out_is_covered_exactly_as_often_as_promised(n, percent):
    """The guarantee itself, with no chance in it: whichever of n + 1 is the new one, all are equally likely."""
    scores = np.random.default_rng(n).permutation(n + 1).astype(float)
    covered = [scores[i] <= conformal_quantile(np.delete(scores, i), percent / 100).quantile for i in range(n + 1)]
    assert Fraction(sum(covered), n + 1) == Fraction(rank(n, percent), n + 1) >= Fraction(percent, 100)


def test_coverage_of_independent_sets_stays_in_its_band():
    """4000 calibration sets of 30 and test sets of 50, with heavy tails. The plain quantile covers too little."""
    rng = np.random.default_rng(0)
    n, m, level = 30, 50, 0.9
    calibration, test = rng.standard_cauchy(size=(4000, n)) ** 2, rng.standard_cauchy(size=(4000, m)) ** 2
    quantile = np.array([conformal_quantile(scores, level).quantile for scores in calibration[:500]])
    assert quantile == pytest.approx(np.sort(calibration[:500])[:, rank(n, 90) - 1])
    counts = (test <= np.sort(calibration)[:, rank(n, 90) - 1, None]).sum(axis=1)
    assert counts.mean() / m == pytest.approx(rank(n, 90) / (n + 1), abs=0.004)
    for confidence in (0.5, 0.9, 0.99):
        low, high = coverage_band(level, n, m, confidence)
        share = np.mean((low * m - 0.5 < counts) & (counts < high * m + 0.5))
        exact = np.diff(betabinom.cdf([low * m - 1, high * m], m, rank(n, 90), n + 1 - rank(n, 90)))[0]
        assert exact >= confidence and share == pytest.approx(exact, abs=0.02)
    naive = (test <= np.quantile(calibration, level, axis=1)[:, None]).mean()
    assert naive < level - 0.02


def test_band_is_scipys_and_narrows_with_the_frames():
    k = rank(325, 90)
    assert coverage_band(0.9, 325) == pytest.approx(beta.ppf([0.005, 0.995], k, 326 - k), rel=1e-12)
    counts = betabinom.ppf([0.005, 0.995], 325, k, 326 - k)
    assert coverage_band(0.9, 325, 325) == pytest.approx(counts / 325, rel=1e-12)
    assert coverage_band(0.9, 325, 20_000) == pytest.approx(coverage_band(0.9, 325), abs=1e-3)
    sizes = ((30, 30), (325, 30), (325, 325), (325, None), (10**5, None))
    assert np.all(np.diff([np.diff(coverage_band(0.9, *pair))[0] for pair in sizes]) < 0)
    assert coverage_band(0.9, 5, 100) == (1.0, 1.0)


@pytest.mark.parametrize("spread", [0.1, 4.0])
def test_atoms_of_a_frame_have_the_weight_of_one_frame(spread):
    """Atoms that share little or much of the scale of their frame. Taken as independent the latter cover too little."""
    rng = np.random.default_rng(1)
    frame, covered, naive = np.repeat(np.arange(12), 6), [], []
    for _ in range(3000):
        scores = np.exp(spread * rng.normal(size=(13, 1))) * rng.exponential(size=(13, 6))
        known, new = scores[:12].ravel(), scores[12]
        covered.append(np.mean(new <= conformal_quantile(known, 0.9, frame).quantile))
        naive.append(np.mean(new <= conformal_quantile(known, 0.9).quantile))
    assert np.mean(covered) > 0.895
    assert spread < 1.0 or np.mean(naive) < 0.885


def test_weights_of_frames_of_different_size():
    """One frame of four atoms, three of one: (n + 1) p = 2.5 frames are 1 + 1 + half of the four."""
    scores, frame = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]), np.array([1, 2, 0, 0, 0, 0, 5])
    assert conformal_quantile(scores, 0.5, frame) == ConformalQuantile(0.5, 4.0, 4)
    assert conformal_quantile(scores, 0.8, frame).quantile == 7.0
    assert conformal_quantile(scores, 0.81, frame).quantile == math.inf
    assert conformal_quantile(scores[::-1], 0.5, frame[::-1]).quantile == 4.0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.integers(1, 5), percents, st.integers(0, 10_000))
def test_copies_of_a_score_in_its_frame_change_nothing(n, copies, percent, seed):
    scores = np.random.default_rng(seed).normal(size=n)
    frame = np.arange(n)
    one, many = (conformal_quantile(np.repeat(scores, c), percent / 100, np.repeat(frame, c)) for c in (1, copies))
    assert one == many == conformal_quantile(scores, percent / 100)


def test_a_small_set_says_what_it_reaches():
    found = conformal_quantile([1.0, 2.0, 3.0, 4.0, 5.0], 0.9)
    assert found.quantile == math.inf and found.n == 5
    assert conformal_quantile([1.0, 2.0, 3.0, 4.0, 5.0], 5 / 6).quantile == 5.0
    assert [frames_needed(level) for level in (0.01, 0.5, 0.68, 0.9, 0.95, 0.99, 0.999)] == [1, 1, 3, 9, 19, 99, 999]


def test_scores_that_are_not_finite_count_as_the_largest():
    scores = np.r_[np.arange(18.0), np.nan, np.inf]
    assert conformal_quantile(scores, 0.8).quantile == 16.0
    assert conformal_quantile(scores, 0.95).quantile == math.inf


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"level": 0.9, "n": 3},
        {"level": None, "quantile": 1.0, "n": 3},
        {"level": 1.5, "quantile": 1.0, "n": 3},
        {"level": 0.9, "quantile": 1.0, "n": 0},
        {"level": 0.9, "quantile": float("nan"), "n": 3},
    ],
)
def test_a_broken_quantile_is_not_read(state):
    with pytest.raises(ValueError, match="again|give"):
        ConformalQuantile.from_dict(state)


def test_impossible_input_is_refused():
    for call, message in [
        (lambda: conformal_quantile([], 0.9), "at least one"),
        (lambda: conformal_quantile(np.ones((3, 2)), 0.9), r"give \(N,\)"),
        (lambda: conformal_quantile([1.0, 2.0], 0.9, [0]), r"give \(N,\)"),
        (lambda: conformal_quantile([1.0], 90), "probability between 0 and 1"),
        (lambda: conformal_quantile([1.0], float("nan")), "probability between 0 and 1"),
        (lambda: frames_needed(1.0), "probability between 0 and 1"),
        (lambda: coverage_band(0.9, 0), "0 calibration frames"),
        (lambda: coverage_band(0.9, 10, 0), "0 test frames"),
        (lambda: coverage_band(0.9, 10, 10, 99), "confidence"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
