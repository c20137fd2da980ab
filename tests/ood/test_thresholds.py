import numpy as np
import pytest
from scipy import stats

from race_calc.ood.thresholds import FALSE_ALARM_RATE, auto_thresholds


def test_the_threshold_is_the_bound_of_a_prediction_interval():
    logs = np.random.default_rng(0).normal(-3.0, 0.4, size=60)
    expected = stats.t.ppf(0.999, df=59, loc=logs.mean(), scale=logs.std(ddof=1) * np.sqrt(61 / 60))
    assert auto_thresholds({"bald_energy": np.exp(logs)}, 1e-3) == {"bald_energy": pytest.approx(np.exp(expected))}
    default = auto_thresholds({"bald_energy": np.exp(logs)})
    assert default == auto_thresholds({"bald_energy": np.exp(logs)}, FALSE_ALARM_RATE)
    assert default["bald_energy"] > np.exp(expected)


@pytest.mark.parametrize("n", [5, 50])
def test_the_rate_is_kept_by_small_sets_too(n):
    """A new log-normal score is above the threshold as often as stated, on average over sets of n."""
    rng = np.random.default_rng(n)
    logs, new = rng.normal(size=(20_000, n)), rng.normal(size=20_000)
    names = [str(i) for i in range(len(logs))]
    found = auto_thresholds(dict(zip(names, np.exp(logs))), 0.05)
    above = np.array([np.exp(x) > found[name] and np.exp(x) > np.exp(row).max() for name, row, x in zip(names, logs, new)])
    by_interval = np.array([x > row.mean() + stats.t.ppf(0.95, n - 1) * row.std(ddof=1) * np.sqrt(1 + 1 / n)
                            for row, x in zip(logs[:2000], new)])
    assert abs(by_interval.mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 2000)
    assert above.mean() <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 20_000)  # never below the largest: fewer alarms


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
