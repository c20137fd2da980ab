"""What the threshold "auto" stands for: a quantile of a score on structures that the model knows. NumPy and SciPy only.

=================== ======================= ===========================================================
quantity            variable                formula
=================== ======================= ===========================================================
x                   –                       log of a score of n structures held back from training
α                   false_alarm_rate        share of new structures of the same kind above the threshold
t                   –                       quantile of Student's t with n − 1 degrees of freedom
threshold           –                       exp(x̄ + t_{n−1}(1 − α) s √(1 + 1/n)), at least the largest score
=================== ======================= ===========================================================

x̄ and s are the mean and the standard deviation (divided by n − 1) of the logs. Where the logs are normally distributed a
new structure is above the threshold with a probability of α exactly, for any n: the one-sided prediction interval for
one further observation (Hahn & Meeker 1991). n structures alone show only rates above 1/(n + 1), so that for smaller
ones the tail is that of the normal distribution, an assumption to be checked on real runs (`docs/calibration.md`).
A rate is one of independent structures. Those of a run stay alike for tens of femtoseconds: count its excursions.
"""

from collections.abc import Mapping

import numpy as np
from scipy.special import stdtrit

FALSE_ALARM_RATE = 1e-4  # of a criterion, per independent structure


def auto_thresholds(scores: Mapping[str, np.ndarray], false_alarm_rate: float = FALSE_ALARM_RATE) -> dict[str, float]:
    """The threshold of each score; `scores`: criterion name → (n,) one score per structure, in any unit.

    Scores that are not finite are left out. A score of zero (BALD of members that agree) has no log: it is raised to the smallest positive
    score of the set. A criterion with fewer than two positive finite scores is left out: it has no spread to measure, and the monitor then
    asks for a threshold by hand. Raises ValueError for a rate outside 0 < α < 1/2.
    """
    if not 0.0 < false_alarm_rate < 0.5:
        raise ValueError(f"the false-alarm rate is {false_alarm_rate}: give a number between 0 and 1/2")
    thresholds = {}
    for name, values in scores.items():
        values = np.asarray(values, dtype=np.float64).ravel()
        finite = values[np.isfinite(values)]
        positive = finite[finite > 0]
        n = len(finite)
        if len(positive) < 2:
            continue
        logs = np.log(np.maximum(finite, positive.min()))
        width = stdtrit(n - 1, 1.0 - false_alarm_rate) * logs.std(ddof=1) * np.sqrt(1.0 + 1.0 / n)
        with np.errstate(over="ignore"):
            threshold = float(max(np.exp(logs.mean() + width), finite.max()))
        if np.isfinite(threshold):  # two or three structures may ask for more than a number holds
            thresholds[name] = threshold
    return thresholds
