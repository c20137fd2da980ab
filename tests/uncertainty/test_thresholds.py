import numpy as np
import pytest
from scipy import stats

from race_calc.uncertainty.thresholds import FALSE_ALARM_RATE, FEWEST, Shape, _of_the_end, auto_thresholds, strangers


def skewed(rng, shape, skewness):
    """Log-scores of mean 0 and standard deviation about 1."""
    x = rng.standard_normal(shape)
    return x + skewness * (x**2 - 1) / 6


def test_small_rates_are_the_bound_of_a_prediction_interval():
    """Logs without skewness: Student's t; K criteria watched together share the rate."""
    half = np.random.default_rng(0).normal(0.0, 0.4, size=30)
    logs = -3.0 + np.concatenate([half, -half])
    bound = lambda rate: np.exp(stats.t.ppf(1 - rate, df=59, loc=-3.0, scale=logs.std(ddof=1) * np.sqrt(61 / 60)))  # noqa: E731
    assert auto_thresholds({"a": np.exp(logs)}, 1e-3) == {"a": pytest.approx(bound(1e-3))}
    assert auto_thresholds({"a": np.exp(logs)}) == auto_thresholds({"a": np.exp(logs)}, FALSE_ALARM_RATE)
    both = {"a": np.exp(logs), "b": np.exp(logs), "c": np.exp(logs)}
    together = auto_thresholds(both, 1e-3, ["a", "b"])
    assert together == {"a": pytest.approx(bound(5e-4)), "b": pytest.approx(bound(5e-4)), "c": pytest.approx(bound(1e-3))}


def test_skewness_bends_the_tail():
    """Cornish and Fisher's first term, with the skewness of the logs; a negative one is not used."""
    logs = skewed(np.random.default_rng(1), 80, 0.9)
    c = stats.t.ppf(1 - 1e-4, df=79) * np.sqrt(81 / 80)
    expected = logs.mean() + logs.std(ddof=1) * (c + stats.skew(logs) * (c**2 - 1) / 6)
    assert stats.skew(logs) > 0.4
    assert np.log(auto_thresholds({"a": np.exp(logs)}, 1e-4)["a"]) == pytest.approx(expected)
    assert np.log(auto_thresholds({"a": np.exp(-logs)}, 1e-4)["a"]) == pytest.approx(-logs.mean() + logs.std(ddof=1) * c)


@pytest.mark.parametrize("n, rate, place", [(99, 0.01, 99), (100, 0.01, 100), (100, 0.02, 99), (50, 0.1, 46), (20, 0.05, 20)])
def test_rates_that_can_be_counted_are_order_statistics(n, rate, place):
    scores = np.random.default_rng(n).exponential(size=n) ** 3
    assert auto_thresholds({"a": scores}, rate) == {"a": pytest.approx(np.sort(scores)[place - 1])}


@pytest.mark.parametrize("skewness, rate, low, high", [(0.0, 0.01, 0.8, 1.2), (1.2, 0.01, 0.8, 1.2), (0.0, 1e-3, 0.4, 1.1)])
def test_three_criteria_together_have_the_stated_rate(skewness, rate, low, high):
    """Correlated log-scores, sets of 100, mean over 300 sets; one criterion alone would have up to three times as many alarms."""
    mix = np.linalg.cholesky(np.array([[1.0, 0.8, 0.6], [0.8, 1.0, 0.5], [0.6, 0.5, 1.0]]))
    draw = lambda rng, n: skewed(rng, (n, 3), skewness) @ mix.T  # noqa: E731
    rng, names = np.random.default_rng(2), ("a", "b", "c")
    new, measured = draw(rng, 50_000), []
    for _ in range(300):
        found = auto_thresholds(dict(zip(names, np.exp(0.4 * draw(rng, 100).T))), rate, names)
        measured.append(np.mean((0.4 * new > np.log([found[name] for name in names])).any(axis=1)))
    assert low < np.mean(measured) / rate < high


def test_a_smaller_rate_never_lowers_a_threshold():
    rng = np.random.default_rng(3)
    scores = {name: np.exp(skewed(rng, 60, 1.0)) for name in ("a", "b")}
    found = [auto_thresholds(scores, rate, ["a", "b"]) for rate in (0.3, 0.1, 1 / 61, 0.01, 1e-3, 1e-5)]
    for less, more in zip(found, found[1:]):
        assert all(less[name] <= more[name] for name in scores)


def test_a_heavy_tail_is_not_below_the_largest_known_score():
    scores = np.exp(0.3 * np.random.default_rng(4).standard_t(3, size=99))
    assert not strangers({"a": scores})
    assert auto_thresholds({"a": scores}, 0.01)["a"] == pytest.approx(scores.max())
    assert auto_thresholds({"a": scores}, 1e-3)["a"] >= scores.max() * (1 - 1e-9)


@pytest.mark.parametrize("n", [50, 99, 100])
@pytest.mark.parametrize("strange", [1e-12, 30.0, 1e3, 1e9])
def test_one_structure_of_another_kind_does_not_raise_the_thresholds(n, strange):
    """Neither a score that is far above, which is told, nor one that is next to nothing (an atom of its own)."""
    rng = np.random.default_rng(n)
    scores = {name: np.exp(0.3 * rng.standard_normal(n)) for name in ("forces", "energy")}
    clean = auto_thresholds(scores, together=["forces", "energy"])
    changed = scores | {"energy": np.append(scores["energy"][1:], strange)}
    found = auto_thresholds(changed, together=["forces", "energy"])
    for name in scores:
        assert 0.75 * clean[name] < found[name] < 1.5 * clean[name]
    assert strangers(changed) == ({n - 1: "energy"} if strange > 1 else {})


def test_one_criterion_raises_the_others_no_further_than_stated():
    rng = np.random.default_rng(7)
    scores = {name: np.exp(0.3 * rng.standard_normal(100)) for name in ("forces", "energy")}
    scores["energy"][0] = np.exp(0.3 * 9.0)  # 9 standard deviations: far, but no stranger
    found = auto_thresholds(scores, together=["forces", "energy"])
    assert not strangers(scores) and found["energy"] == pytest.approx(np.exp(2.7))
    assert found["forces"] < np.exp(0.3 * 1.25 * 2.0 * 2.7)


def test_a_total_is_not_below_its_own_epistemic_part():
    """The aleatoric part is nearly constant, so the total scatters less, and its own tail ends earlier."""
    rng = np.random.default_rng(4)
    epistemic = np.exp(0.5 * rng.standard_normal(50))
    scores = {"energy": np.sqrt(epistemic**2 + 1.0), "energy_epistemic": epistemic}
    alone = auto_thresholds({"energy": scores["energy"]}, 1e-4)["energy"]
    found = auto_thresholds(scores, 1e-4)
    assert alone < found["energy_epistemic"] == found["energy"]


def test_few_structures_give_no_threshold():
    scores = np.exp(np.random.default_rng(5).normal(size=FEWEST))
    assert set(auto_thresholds({"a": scores})) == {"a"}
    assert auto_thresholds({"a": scores[1:]}) == {} == auto_thresholds({"a": np.append(scores[1:], np.nan)})
    broken = np.where(np.arange(FEWEST) < 1, np.nan, scores)  # one criterion of two
    assert set(auto_thresholds({"a": scores, "b": broken}, together=["a", "b"])) == {"a"}


def test_zeros_are_raised_and_what_is_not_finite_is_left_out():
    scores = np.exp(np.random.default_rng(6).normal(size=30))
    with_zero = np.append(scores, 0.0)
    assert auto_thresholds({"a": np.append(with_zero, [np.nan, np.inf])}) == auto_thresholds({"a": np.append(scores, scores.min())})
    assert auto_thresholds({"a": np.zeros(30)}) == {} == auto_thresholds({"a": np.append(np.zeros(30), 1.0)})
    assert auto_thresholds({"a": np.ones(30)}) == {"a": pytest.approx(1.0)}


@pytest.mark.parametrize("rate", [0.0, 0.5, float("nan")])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(ValueError, match="false-alarm rate"):
        auto_thresholds({"a": np.array([1.0, 2.0])}, rate)


def crystals_and_liquids(rng: np.random.Generator, n: int) -> np.ndarray:
    """Logs with two peaks, of which the upper one is the narrower."""
    liquid = rng.random(n) < 0.4
    return np.where(liquid, rng.normal(-4.0, 0.2, n), rng.normal(-8.0, 0.8, n))


@pytest.mark.parametrize("n", [30, 100])
def test_of_two_kinds_of_structures_the_upper_one_tells_the_threshold(n):
    """The spread of all is that between the kinds: a normal tail of it would begin at fifty times the scores of the liquid."""
    rng, rate, found, measured = np.random.default_rng(0), 1e-2, [], []
    for _ in range(25):
        scores = np.exp(np.array([crystals_and_liquids(rng, n), crystals_and_liquids(rng, n)]))
        found.append(auto_thresholds(dict(zip("ab", scores)), rate, together="ab")["a"])
        measured.append(np.mean(np.exp(crystals_and_liquids(rng, 20_000)) > found[-1]))
    best = np.exp(-4.0 + 0.2 * stats.norm.ppf(1 - rate / 0.4))
    assert best / 1.2 < np.median(found) < 2.5 * best
    assert np.mean(measured) < 1.5 * rate


@pytest.mark.parametrize("n, most, rate", [(20, 0.2, 0.015), (50, 0.1, 0.009)])
def test_one_peak_is_one_peak(n, most, rate):
    """Of normal logs the end is seldom taken for another peak, and the rate that 20 or 50 structures give for 0.01 is near it."""
    rng = np.random.default_rng(0)
    ends = [_of_the_end(x[None], Shape.of(x[None])) is not None for x in rng.normal(size=(500, n))]
    assert np.mean(ends) < most
    found = [auto_thresholds({"a": np.exp(rng.normal(size=n))}, 0.01)["a"] for _ in range(400)]
    assert np.mean(stats.norm.sf(np.log(found))) == pytest.approx(rate, rel=0.25)
