"""How well a score tells structures the model knows from others. NumPy only."""

import numpy as np


def auroc(in_distribution: np.ndarray, out_of_distribution: np.ndarray) -> float:
    """Area under the receiver operating characteristic: P(score out > score in) + ½ P(equal).

    1 is a perfect score, 0.5 one that knows nothing. in_distribution: (n,) scores, out_of_distribution:
    (m,) scores of the same kind, larger = less known; any unit, only the order counts. Equal to the
    Mann-Whitney U statistic over n·m (Hanley & McNeil 1982). NaN counts as larger than every number,
    as in the monitor, so that a broken prediction is an alarm.

    Raises ValueError when one of the two is empty.
    """
    known, other = (
        np.nan_to_num(np.asarray(scores, dtype=np.float64).ravel(), nan=np.inf, posinf=np.inf, neginf=-np.inf)
        for scores in (in_distribution, out_of_distribution)
    )
    if len(known) == 0 or len(other) == 0:
        raise ValueError(
            f"AUROC needs scores of both kinds, got {len(known)} in and {len(other)} out of distribution: "
            "give at least one structure each"
        )
    known = np.sort(known)
    below = np.searchsorted(known, other, side="left")
    not_above = np.searchsorted(known, other, side="right")  # the difference are ties, each counted half
    return float(np.mean(0.5 * (below + not_above)) / len(known))
