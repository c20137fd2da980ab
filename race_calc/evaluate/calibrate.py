"""From a predictor and data that it was not trained on to its calibration and the monitor's thresholds. Imports no torch."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from race_calc.data.dataset import Dataset
from race_calc.data.hashes import data_hash, geometry_hashes
from race_calc.evaluate.beside import calibrated_beside, labels_beside
from race_calc.evaluate.overlap import overlap
from race_calc.evaluate.predict import (
    Predicted,
    Progress,
    predict_dataset,
    residuals_of,
    scores_of,
    silent,
    that_fill_space,
    warn_of_stresses,
)
from race_calc.evaluate.reference_level import other_level
from race_calc.uncertainty.calibration import Calibration, fit_calibration
from race_calc.uncertainty.decisions import watched
from race_calc.uncertainty.metrics import mahalanobis
from race_calc.uncertainty.predictor import Predictor
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.scores import SCORES
from race_calc.uncertainty.thresholds import FALSE_ALARM_RATE, auto_thresholds, strangers
from race_calc.uncertainty.vectors import forces_of, stresses_of

FEWEST = 10  # structures


def check_held_back(known: Mapping[str, str] | None, dataset: Dataset) -> list[str]:
    """Warnings about what cannot be told from the record of the training, or is not quite held back.

    `known`: "train" and "validation" → `geometry_hashes` of the structures that the training used, with blanks between them, as
    the record of a model has them; None where there is no such record.
    Raises ValueError for fewer than FEWEST structures, and when structures of the data set were trained on, or occur twice in it.
    """
    if len(dataset) < FEWEST:
        raise ValueError(f"{len(dataset)} structures tell neither a scale nor a threshold: give at least {FEWEST}, better 100 or more")
    hashes = geometry_hashes(dataset)
    if len(set(hashes)) < len(hashes):
        copies = f"{len(hashes) - len(set(hashes))} of {len(hashes)} structures"
        raise ValueError(f"{copies} occur more than once: leave the copies out, or the calibration takes itself for better than it is")
    if known is None:
        return [
            "the model does not tell which structures it was trained on, so an overlap with the calibration data is not seen: "
            "make sure that there is none"
        ]
    seen = overlap(dataset, known, None)
    if seen.trained_on:
        raise ValueError(
            f"{len(seen.trained_on)} of {len(hashes)} structures were trained on (the first is number {seen.trained_on[0]}, counted "
            "from 0), where errors are smaller than elsewhere: calibrate with structures that the training has not seen"
        )
    if seen.chosen_on:
        return [
            f"{len(seen.chosen_on)} of {len(hashes)} structures are validation structures of the training, on which the best weights "
            "were chosen: errors on new ones may be a little larger"
        ]
    return []


def doubts(calibration: Calibration, raw: Residuals) -> list[str]:
    """Warnings about calibration data that do not look like what the model should know; `raw`: not calibrated."""
    warnings, scaled = [], calibration.scaled(raw)
    if scaled.energy_variance is not None:
        warnings += other_level(raw)
        by_size = raw.energy_members is not None
        squared = scaled.energy**2 / (1.0 if by_size else scaled.energy_variance)
        warnings += _one_decides("energies", squared, np.arange(len(raw)), by_size)
    of_vectors = (("forces", calibration.forces, forces_of(scaled)), ("stresses", calibration.stress, stresses_of(scaled)))
    for name, part, vectors in of_vectors:
        if part is not None and vectors is not None:
            by_size = part.form is None and (vectors.members is not None or part.ellipsoids is None)
            difference = vectors.difference
            squared = (difference**2).sum(axis=1) if by_size else mahalanobis(difference, vectors.covariance)
            warnings += _one_decides(name, squared, vectors.frame, by_size)
    return warnings


def _one_decides(name: str, squared: np.ndarray, frame: np.ndarray, by_size: bool) -> list[str]:
    """A warning where one structure makes more than half of the sum; `by_size`: of squares, else of squares over variances."""
    sums = np.bincount(frame, squared)
    worst = int(np.argmax(sums))
    if len(np.unique(frame)) < 2 or sums[worst] <= 0.5 * sums.sum():
        return []
    share, unit = 100 * sums[worst] / sums.sum(), "" if by_size else " in units of σ"
    return [
        f"structure {worst} (counted from 0) alone makes {share:.0f} % of the squared errors of {name}{unit}, so it decides "
        "the scale: look at it, and leave it out if it is broken or of another kind"
    ]


def calibrate(predictor: Predictor, dataset: Dataset, progress: Progress = silent) -> tuple[Calibration, Predicted]:
    """The calibration, and the predictions that it was made of. Raises ValueError as `predict_dataset` and `fit_calibration` do."""
    raw = predict_dataset(predictor, dataset, progress=progress)
    residuals = residuals_of(raw, dataset)
    warn_of_stresses(residuals, dataset)
    fitted = fit_calibration(residuals)
    fitted = replace(fitted, beside=calibrated_beside(raw, dataset, labels_beside(predictor, dataset)))
    thresholds, structures = thresholds_from(raw.calibrated(fitted)), " ".join(geometry_hashes(dataset))
    return replace(fitted, data_hash=data_hash(dataset), structures=structures, thresholds=thresholds), raw


def thresholds_from(predicted: Predicted, false_alarm_rate: float = FALSE_ALARM_RATE) -> dict[str, float]:
    """ "auto" of every score that can be told, those of the default monitor together, none below the least of its score."""
    scores = scores_of(predicted)
    return not_too_low(auto_thresholds(scores, false_alarm_rate, watched(scores, {})))


def not_too_low(thresholds: Mapping[str, float]) -> dict[str, float]:
    """None below the least of its score."""
    return {name: max(value, SCORES[name].least) for name, value in thresholds.items()}


def threshold_doubts(predicted: Predicted) -> list[str]:
    """Warnings about structures that the thresholds are made without; `predicted`: of the calibration data, recalibrated."""
    found, bulk = strangers(scores_of(predicted)), that_fill_space(predicted)
    mixed = [
        "some structures do not repeat in three directions: there are no thresholds for scores of the stress and the pressure; calibrate "
        "with others alone where runs need them"
    ]
    mixed = mixed if any(bulk) and not all(bulk) else []
    if not found:
        return mixed
    first, name = min(found.items())
    return [
        *mixed,
        f"{len(found)} structures have scores of another size than the others (the first is number {first}, counted from 0: "
        f"{name}): the thresholds are made without them; look at them, and leave them out if they are of another kind",
    ]
