"""How well a score tells what the model knows from what it does not. NumPy only.

The scores are those of structures or of atoms, whichever array is passed; any unit, only the order counts, larger =
less known. Out of distribution is "positive", a score at or above the threshold t an alarm. NaN counts as larger than
every number, as in the monitor, so that a broken prediction is an alarm.

=================== ================ ===================================================
quantity            variable         formula
=================== ================ ===================================================
TPR(t)              true / m         share of the m out-of-distribution scores ≥ t
FPR(t)              false / n        share of the n in-distribution scores ≥ t
precision(t)        –                true / (true + false)
AUROC               auroc            P(score out > score in) + ½ P(equal)
AUPR                aupr             Σ over falling t of (increase of TPR) · precision(t)
FPR at 95 % TPR     fpr_at_95_tpr    smallest FPR(t) with TPR(t) ≥ 0.95
=================== ================ ===================================================

Equal scores share one threshold, so that no result depends on the order of the arrays. All raise ValueError when
one of the two arrays is empty.
"""

import numpy as np


def auroc(in_distribution: np.ndarray, out_of_distribution: np.ndarray) -> float:
    """Area under the receiver operating characteristic; in_distribution: (n,), out_of_distribution: (m,) scores.

    1 is a perfect score, 0.5 one that knows nothing. Equal to the Mann-Whitney U statistic over n·m (Hanley & McNeil 1982).
    """
    known, other = _sorted(in_distribution, out_of_distribution, "AUROC")
    below = np.searchsorted(known, other, side="left")
    not_above = np.searchsorted(known, other, side="right")  # the difference are ties, each counted half
    return float(np.mean(0.5 * (below + not_above)) / len(known))


def aupr(in_distribution: np.ndarray, out_of_distribution: np.ndarray) -> float:
    """Area under the precision-recall curve as average precision, without interpolation; (n,) and (m,) scores.

    1 is a perfect score; one that knows nothing has m/(n + m), so compare only between sets of the same sizes.
    """
    false, true = _alarms(*_sorted(in_distribution, out_of_distribution, "AUPR"))
    return float(np.sum(np.diff(true, prepend=0) * true / (true + false)) / true[-1])


def fpr_at_95_tpr(in_distribution: np.ndarray, out_of_distribution: np.ndarray) -> float:
    """Share of false alarms at the highest threshold that catches 95 % of the others; 0 is perfect, 0.95 knows nothing."""
    false, true = _alarms(*_sorted(in_distribution, out_of_distribution, "FPR at 95 % TPR"))
    return float(false[np.argmax(true / true[-1] >= 0.95)] / false[-1])


def roc(in_distribution: np.ndarray, out_of_distribution: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The receiver operating characteristic: FPR(t) and TPR(t) over falling t, from (0, 0) to (1, 1); (n,) and (m,) scores.

    The area below it, by trapezoids, is `auroc`.
    """
    false, true = _alarms(*_sorted(in_distribution, out_of_distribution, "ROC"))
    return np.concatenate([[0.0], false / false[-1]]), np.concatenate([[0.0], true / true[-1]])


def _sorted(in_distribution: np.ndarray, out_of_distribution: np.ndarray, name: str) -> list[np.ndarray]:
    both = [np.asarray(scores, dtype=np.float64).ravel() for scores in (in_distribution, out_of_distribution)]
    inside, outside = map(len, both)
    if not (inside and outside):
        counts = f"{inside} in and {outside} out of distribution"
        raise ValueError(f"{name} needs scores of both kinds, got {counts}: give at least one structure each")
    return [np.sort(np.where(np.isnan(scores), np.inf, scores)) for scores in both]


def _alarms(known: np.ndarray, other: np.ndarray) -> list[np.ndarray]:
    """False and true alarms at every distinct threshold, from the highest to the lowest, where all are alarms."""
    thresholds = np.unique(np.concatenate([known, other]))[::-1]
    return [len(scores) - np.searchsorted(scores, thresholds, side="left") for scores in (known, other)]
