"""What the threshold "auto" stands for: a quantile of scores on structures that the model knows. NumPy and SciPy only.

================ ==================== ============================================================================================
quantity         variable             formula
================ ==================== ============================================================================================
x                x                    logs of the scores of n structures held back from training
x̄, s, γ          mean, std, skewness  of the logs; s divided by n − 1, γ not below 0; or of their upper end (`_of_the_end`)
α                false_alarm_rate     share of new structures of the same kind above a threshold
K                together             criteria that are watched together
v(x)             normal_scores        (x − x̄)/s = v + γ (v² − 1)/6 solved for v
threshold        at                   exp(x̄ + s (c + γ (c² − 1)/6)), c the same for all K
α ≥ 1/(n + 1)    _counted             order statistics of the jackknife+ (Barber et al. 2021) for the largest v of a structure
c for smaller α  _assumed             t_{n−1}(1 − α/K) √(1 + 1/n); the threshold at least that of α = 1/(n + 1)
================ ==================== ============================================================================================

Rates from 1/(n + 1) up are counted: one more structure of the same kind exceeds the ⌈(n + 1)(1 − α)⌉-th smallest of n with a
probability of at most α, whatever the distribution. For one criterion this is exact; for several it rests on each
structure being judged by x̄, s and γ of the others. **Smaller rates are an assumption**: that the logs have the tail of a normal
distribution, bent by their skewness (Cornish & Fisher 1938, first term), for which c is the bound of a prediction
interval for one more observation (Hahn & Meeker 1991); the K criteria share the rate (Bonferroni).
Scores of several kinds of structures, such as crystals and liquids, have logs with several peaks, whose spread tells nothing of the end
of the highest one. Where the upper half of the logs, or the upper quarter, is much narrower than a normal distribution with their spread
would have it, that part alone tells the tail.
`docs/thresholds.md` has stated and measured rates. They are of independent structures: those of a run stay alike for tens of
femtoseconds, count its excursions.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

FALSE_ALARM_RATE = 1e-2  # per independent structure, of the default monitor but its gap, and of every other criterion alone: what 100 can
# count. 10⁻⁴ is beyond them: where it was measured it was 20 times as much, and its thresholds let one bad frame in eight pass
FEWEST = 20  # structures; fewer tell no tail, and the assumed one of 5 asks for energies of 10⁵ times the usual σ
FAR, LOW = 10.0, 4.0  # standard deviations of the logs, from median distances: another kind of structure; what is low tells nothing
NARROW = 0.6  # times the spread of all: the upper end is a peak of its own; of 20 structures of one peak 14 in 100 sets seem so, of 50 five
ENDS = {0.5: 1.0, 0.75: 0.773}  # quantile → see `_of_the_end`
MANY = 500  # structures, of which one more or less moves no upper end
MOST = 2.0  # times the normal score of the rate: one criterion of one structure raises the thresholds of the others no further


def auto_thresholds(
    scores: Mapping[str, np.ndarray], false_alarm_rate: float = FALSE_ALARM_RATE, together: Collection[str] = ()
) -> dict[str, float]:
    """The threshold of each score; `scores`: criterion name → (n,) one score per structure, in any unit.

    `together`: names of which a structure is above any with the stated rate (those among them that have scores); each other name has the
    rate alone. Scores that are not finite are left out, and so are
    structures far above the others (`strangers`). A score of zero (BALD of members that agree) has no log: it is raised to
    the smallest positive score of the set. A criterion with fewer than FEWEST finite scores, or without two positive ones,
    is left out: the monitor then asks for a calibration. The threshold of a total (`name`) is never below that of its own epistemic part
    (`name_epistemic`), as the total never is. Raises ValueError for a rate outside 0 < α < 1/2.
    """
    if not 0.0 < false_alarm_rate < 0.5:
        raise ValueError(f"the false-alarm rate is {false_alarm_rate}: give a number between 0 and 1/2")
    all_logs = {name: _logs(values) for name, values in scores.items()}
    logs = {name: x for name, x in all_logs.items() if x is not None}
    group = [name for name in logs if name in together]
    found: dict[str, float] = {}
    for names in [group, *([name] for name in logs if name not in together)]:
        if names:
            found |= _thresholds({name: logs[name] for name in names}, false_alarm_rate)
    found = {name: max(value, found.get(f"{name}_epistemic", value)) for name, value in found.items()}
    return {name: found[name] for name in scores if np.isfinite(found.get(name, np.nan))}


def strangers(scores: Mapping[str, np.ndarray]) -> dict[int, str]:
    """Structures, by number, with a score so far above the others that thresholds are made without them, and which score that is."""
    found: dict[int, str] = {}
    for name, values in scores.items():
        x = _all_logs(values)
        found = ({} if x is None else {int(i): name for i in np.flatnonzero(x > _bounds(x)[1])}) | found
    return found


def _logs(values: np.ndarray) -> np.ndarray | None:
    """(n,) with NaN for what is not finite and for strangers, None where too few are left."""
    x = _all_logs(values)
    if x is None:
        return None
    low, far = _bounds(x)
    x = np.where(x > far, np.nan, np.maximum(x, low))
    return x if np.isfinite(x).sum() >= FEWEST else None


def _all_logs(values: np.ndarray) -> np.ndarray | None:
    """(n,) with NaN for what is not finite, None where there are too few."""
    values = np.asarray(values, dtype=np.float64).ravel()
    finite = np.isfinite(values)
    positive = values[finite & (values > 0)]
    if finite.sum() < FEWEST or len(positive) < 2:
        return None
    x: np.ndarray = np.where(finite, np.log(np.maximum(np.where(finite, values, 1.0), positive.min())), np.nan)
    return x


def _bounds(x: np.ndarray) -> tuple[float, float]:
    """LOW below and FAR above the median, in standard deviations of a normal distribution: 1.48 times the median distance from it.

    Infinite where that is 0."""
    middle = float(np.nanmedian(x))
    width = 1.4826 * float(np.nanmedian(np.abs(x - middle))) or np.inf
    return middle - LOW * width, middle + FAR * width


def _thresholds(logs: Mapping[str, np.ndarray], rate: float) -> dict[str, float]:
    """Of criteria that are watched together."""
    x = np.array(list(logs.values()))  # (K, n)
    x = x[:, np.isfinite(x).all(axis=0)]
    n = x.shape[1]
    if n < FEWEST:
        return {}
    counted = max(rate, 1.0 / (n + 1))
    bounds = _counted(x, counted, MOST * _assumed(n, counted / len(x)))
    if rate < counted:
        bounds = np.maximum(bounds, _tail(x).at(np.array([_assumed(n, rate / len(x))]))[:, 0])
    with np.errstate(over="ignore"):
        return dict(zip(logs, np.exp(bounds).tolist()))


@dataclass(frozen=True, eq=False)
class Shape:
    """Middle, spread and skewness (not below 0) of logs: (K, 1), or (K, n) with one structure left out in turn."""

    middle: np.ndarray
    std: np.ndarray
    skewness: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, left_out: bool = False) -> "Shape":
        """Of x (K, n); power sums about the mean of all, so that each can be taken out of them."""
        about = x.mean(axis=1, keepdims=True)
        d = x - about
        n, sums = x.shape[1], [(d**power).sum(axis=1, keepdims=True) for power in (1, 2, 3)]
        if left_out:
            n, sums = n - 1, [total - d**power for power, total in zip((1, 2, 3), sums)]
        first, second, third = (total / n for total in sums)
        variance = np.maximum(second - first**2, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            skewness = np.nan_to_num((third - 3 * first * second + 2 * first**3) / variance**1.5, posinf=0.0)
        return cls(about + first, np.sqrt(variance * n / (n - 1)), np.maximum(skewness, 0.0))

    def at(self, c: np.ndarray) -> np.ndarray:
        """Logs at the normal score c."""
        return self.middle + self.std * (c + self.skewness * (c**2 - 1.0) / 6.0)

    def normal_scores(self, x: np.ndarray) -> np.ndarray:
        """v of every x; far below the mean, where there is none, a number that still grows with x."""
        z = np.divide(x - self.middle, self.std, out=np.zeros_like(x), where=self.std > 0)
        w = z + self.skewness / 6.0
        v: np.ndarray = 2.0 * w / (1.0 + np.sqrt(np.maximum(1.0 + 2.0 * self.skewness / 3.0 * w, 0.0)))
        return v


def _tail(x: np.ndarray) -> Shape:
    """What tells the tail of x (K, n): the shape of all, or of its upper end."""
    whole = Shape.of(x)
    return _of_the_end(x, whole) or whole


def _tails_left_out(x: np.ndarray) -> Shape:
    """The same (K, n) with one structure left out in turn."""
    whole = _of_the_end(x, Shape.of(x))
    if whole is None:
        return Shape.of(x, left_out=True)
    if len(x) == 1 or x.shape[1] > MANY:  # one criterion is counted by itself
        return Shape(*(np.broadcast_to(value, x.shape) for value in (whole.middle, whole.std, whole.skewness)))
    tails = [_tail(np.delete(x, i, axis=1)) for i in range(x.shape[1])]
    return Shape(*(np.concatenate([getattr(one, name) for one in tails], axis=1) for name in ("middle", "std", "skewness")))


def _of_the_end(x: np.ndarray, shape: Shape) -> Shape | None:
    """The shape (K, 1) that the upper ends of x (K, n) have, where they are much narrower than `shape` says; None where none is.

    Of a normal distribution the part above its p-quantile u has a root mean square distance from u that is ENDS[p] standard deviations.
    """
    middle, std, skewness = shape.middle, shape.std, shape.skewness
    for p, expected in ENDS.items():
        u = np.quantile(x, p, axis=1, keepdims=True)
        above = x > u
        squares = np.where(above, (x - u) ** 2, 0.0).sum(axis=1, keepdims=True) / np.maximum(above.sum(axis=1, keepdims=True), 1)
        of_end = np.sqrt(squares) / expected
        narrow = (of_end > 0) & (of_end < NARROW * std)
        middle, std = np.where(narrow, u - float(ndtri(p)) * of_end, middle), np.where(narrow, of_end, std)
        skewness = np.where(narrow, 0.0, skewness)
    return None if np.array_equal(std, shape.std) else Shape(middle, std, skewness)


def _counted(x: np.ndarray, rate: float, most: float) -> np.ndarray:
    """(K,) the order statistics of the jackknife+: every structure is judged by the others; `most`: the largest normal score that counts
    for the other criteria of a structure."""
    shape = _tails_left_out(x)
    scores = shape.normal_scores(x)  # (K, n)
    largest = scores.max(axis=0)
    bounds = np.where(scores == largest, x, shape.at(np.minimum(largest, most)))
    place = int(np.ceil((x.shape[1] + 1) * (1.0 - rate) - 1e-9))  # rounding of (n + 1) α
    return np.asarray(np.sort(bounds, axis=1)[:, place - 1])


def _assumed(n: int, rate: float) -> float:
    return float(stdtrit(n - 1, 1.0 - rate) * np.sqrt(1.0 + 1.0 / n))
