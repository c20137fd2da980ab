import numpy as np
import pytest
from scipy import stats

from race_calc.uncertainty.thresholds import FALSE_ALARM_RATE, auto_thresholds


def test_the_threshold_is_the_bound_of_a_prediction_interval():
    logs = np.random.default_rng(0).normal(-3.0, 0.4, size=60)
    expected = stats.t.ppf(0.999, df=59, loc=logs.mean(), scale=logs.std(ddof=1) * np.sqrt(61 / 60))
    assert auto_thresholds({"bald_energy": np.exp(logs)}, 1e-3) == {"bald_energy": pytest.approx(np.exp(expected))}
    default = auto_thresholds({"bald_energy": np.exp(logs)})
    assert default == auto_thresholds({"bald_energy": np.exp(logs)}, FALSE_ALARM_RATE)
    assert default["bald_energy"] > np.exp(expected)


@pytest.mark.parametrize("n, rate", [(5, 0.02), (50, 0.005)])
def test_the_rate_is_kept_by_small_sets_too(n, rate):
    """A new log-normal score is above the threshold as often as stated, on average over sets of n; a little more seldom, because the
    threshold is never below the largest score of the set."""
    rng = np.random.default_rng(n)
    logs, new = rng.normal(size=(20_000, n)), np.exp(rng.normal(size=20_000))
    names = [str(i) for i in range(len(logs))]
    found = auto_thresholds(dict(zip(names, np.exp(logs))), rate)
    above = np.mean([score > found[name] for name, score in zip(names, new)])
    deviation = np.sqrt(rate / len(new))
    assert 0.75 * rate - 4 * deviation < above < rate + 4 * deviation


def test_a_heavy_tail_is_not_below_the_largest_known_score():
    scores = np.append(np.full(50, 1.0) + 1e-3 * np.arange(50), 1e3)
    assert auto_thresholds({"a": scores}, 0.1)["a"] == 1e3


def test_auto_thresholds_floor_zeros_and_leave_out_what_is_not_finite():
    found = auto_thresholds({"a": np.array([0.0, 0.1, 0.2])})
    assert found == auto_thresholds({"a": np.array([0.1, 0.1, 0.2, np.nan, np.inf])})


@pytest.mark.parametrize("scores", [[], [1.0], [0.0, 1.0], [np.nan, 1.0], [1e-300, 1e300]])
def test_a_criterion_without_a_usable_spread_is_left_out(scores):
    found = auto_thresholds({"a": np.array(scores), "b": np.array([1.0, 1.0])})
    assert found == {"b": pytest.approx(1.0)}


@pytest.mark.parametrize("rate", [0.0, 0.5, float("nan")])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(ValueError, match="false-alarm rate"):
        auto_thresholds({"a": np.array([1.0, 2.0])}, rate)
