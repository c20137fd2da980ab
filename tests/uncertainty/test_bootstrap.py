"""Intervals over resampled frames against their standard error, and how often they hold the truth."""

import numpy as np
import pytest
from scipy.stats import norm

from race_calc.uncertainty import bootstrap
from race_calc.uncertainty.bootstrap import Interval, calibration_error_interval, mean_interval
from race_calc.uncertainty.metrics import calibration_floor, level_error


def test_interval_of_a_mean_is_that_of_the_central_limit_theorem():
    values = np.random.default_rng(0).normal(size=2000)
    found = mean_interval(values, np.arange(2000), confidence=0.9)
    half = norm.ppf(0.95) * values.std() / np.sqrt(2000)
    assert found.value == pytest.approx(values.mean(), rel=1e-12)
    assert (found.high - found.value, found.value - found.low) == pytest.approx((half, half), rel=0.1)


def test_copies_within_a_frame_add_no_knowledge():
    """27 atoms that all say the same are one value. Taken for frames they would shrink the interval √27-fold."""
    values = np.random.default_rng(1).uniform(size=100)
    copies, frame = np.repeat(values, 27), np.repeat(np.arange(100), 27)
    one, many = mean_interval(values, np.arange(100)), mean_interval(copies, frame)
    assert (many.value, many.low, many.high) == pytest.approx((one.value, one.low, one.high), rel=1e-12)
    wrong = mean_interval(copies, np.arange(2700))
    assert wrong.high - wrong.low < 0.3 * (one.high - one.low)
    single, error = calibration_error_interval(values, np.arange(100)), calibration_error_interval(copies, frame)
    assert (error.value, error.low, error.high) == pytest.approx((single.value, single.low, single.high), rel=1e-9)


def test_frames_of_different_size_count_by_their_values():
    values, frame = np.array([1.0, 1.0, 1.0, 0.0]), np.array([7, 7, 7, -2])
    assert mean_interval(values, frame) == Interval(0.75, 0.0, 1.0)


def test_values_of_a_vector_belong_to_one_frame():
    values, frame = np.random.default_rng(2).uniform(size=(40, 3)), np.repeat(np.arange(20), 2)
    flat = mean_interval(values.ravel(), np.repeat(frame, 3))
    both = mean_interval(values, frame)
    assert (both.value, both.low, both.high) == pytest.approx((flat.value, flat.low, flat.high), rel=1e-12)


def test_the_seed_decides():
    difference, frame = np.random.default_rng(3).normal(size=(300, 3)), np.repeat(np.arange(60), 5)
    assert mean_interval(difference, frame) == mean_interval(difference, frame) != mean_interval(difference, frame, seed=1)


def test_intervals_hold_the_truth_as_often_as_they_say(monkeypatch):
    """100 sets of 40 frames of 5 atoms, which share half of their error."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 200)
    rng = np.random.default_rng(4)
    frame, hits = np.repeat(np.arange(40), 5), []
    for seed in range(100):
        difference = np.sqrt(0.5) * (np.repeat(rng.normal(size=40), 5) + rng.normal(size=200))
        inside = np.abs(difference) <= norm.ppf(0.84)
        found = mean_interval(inside, frame, confidence=0.9, seed=seed)
        hits.append(found.low <= 0.68 <= found.high)
    assert 0.82 <= np.mean(hits) <= 0.97


def test_interval_of_the_calibration_error_holds_its_mean_and_the_value():
    rng = np.random.default_rng(5)
    pit = norm.cdf(1.5 * rng.normal(size=400))
    found = calibration_error_interval(pit, np.arange(400))
    assert found.value == level_error(pit) and found.low <= found.value <= found.high
    mean = np.mean([level_error(norm.cdf(1.5 * rng.normal(size=400))) for _ in range(300)])
    assert found.low <= mean <= found.high
    right = calibration_error_interval(rng.uniform(size=400), np.arange(400))
    assert right.low <= calibration_floor(np.inf, 400) <= right.high < found.low
    broken = calibration_error_interval(np.array([np.nan, 0.3, 1.0]), np.arange(3))
    assert broken.value == level_error([np.nan, 0.3, 1.0]) and broken.high <= 1 / 3


def test_resamples_are_the_frames_put_together(monkeypatch):
    """Against copies of whole frames of different size, with values on a level and NaN."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 50)
    pit = np.round(np.random.default_rng(6).uniform(size=(12, 2)) ** 2, 2)
    frame = np.array([3, 3, 3, 5, 5, 1, 1, 1, 1, 0, 0, 9])
    names, sets = np.unique(frame), []
    for drawn in bootstrap._weights(5, 7):
        sets.append(np.repeat(np.arange(12), drawn[np.searchsorted(names, frame)].astype(int)))
    found = mean_interval(pit, frame, confidence=0.8, seed=7)
    expected = np.quantile([pit[rows].mean() for rows in sets], [0.1, 0.9])
    assert [found.low, found.high] == pytest.approx(expected, rel=1e-12)
    pit[5, 1] = np.nan
    errors = np.array([level_error(pit[rows]) for rows in sets])
    low, high = np.quantile(errors - errors.mean() + level_error(pit), [0.1, 0.9])
    found = calibration_error_interval(pit, frame, confidence=0.8, seed=7)
    assert (found.low, found.high) == pytest.approx((max(low, 0.0), high), rel=1e-12)


def test_impossible_input_is_refused():
    with pytest.raises(ValueError, match="give at least two"):
        mean_interval([1.0, 2.0], [0, 0])
    with pytest.raises(ValueError, match="number of its frame"):
        mean_interval(3.0, np.array([0]))
    with pytest.raises(ValueError, match="number of its frame"):
        mean_interval(np.ones((4, 3)), np.arange(3))
    with pytest.raises(ValueError, match="confidence"):
        calibration_error_interval([0.1, 0.2], [0, 1], confidence=95)


def test_the_same_interval_every_time_of_95_percent():
    values, frame = np.random.default_rng(0).uniform(size=40), np.arange(40)
    for interval in (mean_interval, calibration_error_interval):
        assert interval(values, frame) == interval(values, frame, confidence=0.95, seed=0)
