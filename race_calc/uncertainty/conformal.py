"""Intervals that hold their share whatever the distribution of the errors. NumPy and SciPy only.

Split conformal prediction (Vovk et al. 2005; Lei et al. 2018): with scores s of n calibration frames that the model was
not trained on, a new frame of the same kind has a score up to q with a probability of at least p, for any n. The scores themselves must
not be fitted to these frames, but for a factor that all share: it drops out. Where more is fitted to them (two factors, an
exponent, the choice between two ways), intervals cover a little less (90 %: 0.896 at n = 10; `benchmarks/conformal_coverage.py`).

=================== ======================= ===========================================================
quantity            variable                formula
=================== ======================= ===========================================================
s                   scores                  |d|/σ of a number, √(dᵀ Σ⁻¹ d) of a vector
p                   level                   wanted share
n                   n                       calibration frames
k                   rank                    ⌈(n + 1) p⌉
q                   quantile                k-th smallest score; infinite where k > n
C                   coverage_band           share of m test frames covered: m C ~ BetaBinomial(m, k, n + 1 − k),
                                            C ~ Beta(k, n + 1 − k) for m → ∞
=================== ======================= ===========================================================

"Of the same kind" (exchangeable) is the only assumption, and it is a strong one: it holds between random halves of a data set, not from
300 K to 1200 K. With several scores a frame (atoms) each frame has the same weight, and a new frame the weight of one frame at infinity
(hierarchical conformal prediction: Lee, Barber & Willett 2023): q is the smallest score below which Σ_f (share of frame f) ≥ (n + 1) p.
The atoms of a frame taken for independent would promise too much.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from race_calc.uncertainty.metrics import check_probability

_ROUNDING = 1e-9  # of (n + 1) p: 0.55 · 20 is 11.000000000000002


@dataclass(frozen=True)
class ConformalQuantile:
    """The multiple of σ (or Σ^½) that holds a share of new frames.

    ======== ===== ==========================================================
    field    type  meaning
    ======== ===== ==========================================================
    level    float wanted share, between 0 and 1
    quantile float largest score inside, in the unit of the scores; may be ∞
    n        int   calibration frames
    ======== ===== ==========================================================
    """

    level: float
    quantile: float
    n: int

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "ConformalQuantile":
        """From its fields, where an infinite quantile is None. Raises ValueError for missing fields and impossible values."""
        try:
            quantile = math.inf if state["quantile"] is None else float(state["quantile"])
            stored = cls(float(state["level"]), quantile, int(state["n"]))
        except (KeyError, TypeError) as error:
            raise ValueError("a conformal quantile has a level, a quantile and n: calibrate the model again") from error
        _rank(stored.n, stored.level)
        if math.isnan(quantile):
            raise ValueError("the conformal quantile is not a number: calibrate the model again")
        return stored


def conformal_quantile(scores: np.ndarray, level: float, frame: np.ndarray | None = None) -> ConformalQuantile:
    """The quantile of `scores` (N,) that covers a new frame's score with a probability of at least `level`.

    `frame` (N,) tells the frame of each score by any integer; without it each is a frame of its own. With it the promise is for an atom
    picked at random from a new frame. NaN counts as infinite. Raises ValueError for no scores, shapes that do not fit and a level outside
    0 < level < 1.
    """
    scores = np.asarray(scores, dtype=np.float64)
    frame = np.arange(scores.size) if frame is None else np.asarray(frame)
    if scores.ndim != 1 or scores.size == 0 or frame.shape != scores.shape:
        raise ValueError(f"scores have the shape {scores.shape}, frames {frame.shape}: give (N,) both, at least one")
    _, index, counts = np.unique(frame, return_inverse=True, return_counts=True)
    n = len(counts)
    _rank(n, level)
    order = np.argsort(scores)  # NaN at the end
    weight = np.cumsum(1.0 / counts[index[order]])  # in frames
    place = int(np.searchsorted(weight, (n + 1) * level - _ROUNDING))
    quantile = scores[order[place]] if place < len(scores) else math.inf
    return ConformalQuantile(float(level), math.inf if np.isnan(quantile) else float(quantile), n)


def coverage_band(level: float, n_calibration: int, n_test: int | None = None, confidence: float = 0.99) -> tuple[float, float]:
    """Lowest and highest share of n_test test frames (None: infinitely many) that is covered, with this confidence.

    Exact for one score a frame, if no two are equal; with several, which do not all fail together, the coverage
    scatters less. Raises ValueError for numbers of frames below one and for probabilities outside 0 … 1.
    """
    from scipy.stats import beta, betabinom  # takes most of a second to load, and a calculator reads quantiles only

    rank = _rank(n_calibration, level)
    if n_test is not None and n_test < 1:
        raise ValueError(f"a band for {n_test} test frames: give at least one, or None for infinitely many")
    check_probability(confidence, "confidence")
    if rank > n_calibration:
        return 1.0, 1.0  # the quantile is infinite
    tails, shape = np.array([0.5 - 0.5 * confidence, 0.5 + 0.5 * confidence]), (rank, n_calibration + 1 - rank)
    low, high = beta.ppf(tails, *shape) if n_test is None else betabinom.ppf(tails, n_test, *shape) / n_test
    return float(low), float(high)


def frames_needed(level: float) -> int:
    """Calibration frames from which the quantile of this level is finite, ⌈p/(1 − p)⌉. Raises ValueError outside 0 < level < 1."""
    check_probability(level, "level")
    return max(1, math.ceil(level / (1.0 - level) - _ROUNDING / (1.0 - level)))


def _rank(n: int, level: float) -> int:
    check_probability(level, "level")
    if n < 1:
        raise ValueError(f"there are {n} calibration frames: give at least one")
    return max(1, math.ceil((n + 1) * level - _ROUNDING))
