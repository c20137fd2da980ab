"""What the threshold "auto" stands for. NumPy only."""

from collections.abc import Mapping

import numpy as np

AUTO_Z = 5.0  # standard deviations of the log score above its mean


def auto_thresholds(validation_scores: Mapping[str, np.ndarray], z: float = AUTO_Z) -> dict[str, float]:
    """exp(mean + z · std) of the log of each score on the validation set.

    validation_scores: criterion name -> (n,) one score per structure. The standard
    deviation is the population one. Scores that are not finite are left out. A score
    of zero (BALD of members that agree) has no log: it is raised to the smallest
    positive score of the set.

    A criterion with fewer than two positive finite scores is left out: it has no spread
    to measure, and the monitor then asks for a threshold by hand.
    """
    thresholds = {}
    for name, scores in validation_scores.items():
        scores = np.asarray(scores, dtype=np.float64).ravel()
        finite = scores[np.isfinite(scores)]
        positive = finite[finite > 0]
        if len(positive) < 2:
            continue
        logs = np.log(np.maximum(finite, positive.min()))
        thresholds[name] = float(np.exp(logs.mean() + z * logs.std()))
    return thresholds
