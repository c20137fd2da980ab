"""All that is told about a predictor on one data set: errors, reliability, scores; and what tells data sets apart. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from race_calc.data.dataset import Dataset
from race_calc.evaluate.beside import errors_beside, labels_beside
from race_calc.evaluate.errors import Evaluation, summarise
from race_calc.evaluate.overlap import Overlap
from race_calc.evaluate.predict import Progress, predict_dataset, residuals_of, silent, warn_of_stresses
from race_calc.evaluate.properties import PropertyErrors
from race_calc.evaluate.reference_level import ReferenceLevel, reference_level
from race_calc.evaluate.reliability import Reliability, calibrated_levels, inside, nominal_levels, reliability
from race_calc.evaluate.unified_score import Errors, unified_terms
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.decisions import default_scores
from race_calc.uncertainty.detection import aupr, auroc, fpr_at_95_tpr
from race_calc.uncertainty.metrics import LEVELS, rmse
from race_calc.uncertainty.predictor import Predictor, calibration_of, thresholds_of
from race_calc.uncertainty.ranking import force_rank_ceiling, force_rank_correlation
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.scores import atom_scores

BAD = 5.0  # times the force RMSE of the known set
RELATIVE_ERROR = 0.05  # reference errors of the unified score, as a share of the spread of the labels


@dataclass(frozen=True, eq=False)
class Assessment:
    """A model on one data set of B structures with N atoms.

    ================ ==========================================================================
    field            meaning
    ================ ==========================================================================
    evaluation       errors, likelihood and scores; calibrated where the model is
    raw              Residuals before the calibration
    calibrated       Residuals after its scaling, or None
    before, after    quantity → levels at which references are found; after: {} without a calibration
    before_quality   quantity → Reliability, and the same for `after`
    after_quality
    rank             rank correlation of √tr Σ and |ΔF| over the atoms and its ceiling, or None
    atom_scores      name → (N,), scores of single atoms
    beside           name → PropertyErrors of what else is predicted, such as the gap between states; None without labels
    ================ ==========================================================================
    """

    evaluation: Evaluation
    raw: Residuals
    calibrated: Residuals | None
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]
    before_quality: dict[str, Reliability]
    after_quality: dict[str, Reliability]
    rank: tuple[float, float] | None
    atom_scores: dict[str, np.ndarray]
    beside: dict[str, PropertyErrors | None] = field(default_factory=dict)

    @property
    def residuals(self) -> Residuals:
        """As RACECalculator gives them: calibrated where there is a calibration."""
        return self.raw if self.calibrated is None else self.calibrated

    @property
    def levels(self) -> dict[str, np.ndarray]:
        """Likewise."""
        return self.after or self.before

    @property
    def level(self) -> ReferenceLevel | None:
        """How much of the energy errors is a constant of each element, or None where that cannot be told."""
        return reference_level(self.raw)

    @property
    def covered(self) -> np.ndarray | None:
        """Which forces lie in their 90 % ellipsoids (N,), else which components in their intervals (N, 3), else None."""
        name = next((name for name in ("ellipsoids", "forces") if name in self.levels), None)
        return None if name is None else inside(self.levels[name], LEVELS[1], name)


def assess(predictor: Predictor, calibration: Calibration | None, dataset: Dataset, progress: Progress = silent) -> Assessment:
    """Predict a data set and judge it; `calibration`: applied to raw predictions. Raises ValueError as `predict_dataset` does."""
    predicted = predict_dataset(predictor, dataset, progress=progress)
    raw = residuals_of(predicted, dataset)
    warn_of_stresses(raw, dataset)
    if calibration is not None:
        predicted = predicted.calibrated(calibration)
    calibrated = None if calibration is None else calibration.scaled(raw)
    before, after = nominal_levels(raw), {} if calibration is None else calibrated_levels(raw, calibration)
    covariance, rank = raw.forces_covariance, None
    if covariance is not None and len(covariance) > 1:
        rank = force_rank_correlation(raw.forces, covariance), force_rank_ceiling(covariance)
    atoms = [atom_scores(p) for p in predicted.predictions]
    return Assessment(
        evaluation=summarise(predicted, raw if calibrated is None else calibrated, dataset),
        raw=raw,
        calibrated=calibrated,
        before=before,
        after=after,
        before_quality=reliability(before, raw.frame),
        after_quality=reliability(after, raw.frame),
        rank=rank,
        atom_scores={f"atom: {name}": np.concatenate([scores[name] for scores in atoms]) for name in atoms[0]},
        beside=errors_beside(predicted, labels_beside(predictor, dataset)),
    )


@dataclass(frozen=True)
class Detection:
    """How well a score tells a data set from the known one (see `race_calc.uncertainty.detection`), and what its threshold "auto" does.

    alarms_known, alarms_other: share of structures above the threshold in each set. missed: structures of the other set
    that are bad, with a force RMSE of more than BAD times that of the known set, and yet not above the threshold; bad:
    how many there are. None where the score has no threshold.
    """

    auroc: float
    aupr: float
    fpr_at_95_tpr: float
    bad: int
    alarms_known: float | None = None
    alarms_other: float | None = None
    missed: int | None = None


def detections(known: Assessment, other: Assessment, thresholds: Mapping[str, float]) -> dict[str, Detection]:
    """Score → Detection, of structures and of atoms."""
    detected = {}
    bad = ~(force_rmse(other.raw) <= BAD * known.evaluation.forces.rmse)  # NaN is bad
    others = other.evaluation.scores | other.atom_scores
    for name, values in (known.evaluation.scores | known.atom_scores).items():
        if name not in others:  # of the stress, where structures have no volume
            continue
        pair = values, others[name]
        alarms: tuple[float, float, int] | tuple[()] = ()
        if name in thresholds:
            above = [~(scores <= thresholds[name]) for scores in pair]  # NaN is an alarm
            alarms = float(above[0].mean()), float(above[1].mean()), int((bad & ~above[1]).sum())
        detected[name] = Detection(auroc(*pair), aupr(*pair), fpr_at_95_tpr(*pair), int(bad.sum()), *alarms)
    return detected


def force_rmse(raw: Residuals) -> np.ndarray:
    """Of each structure, (B,) eV/Å."""
    return np.sqrt(np.bincount(raw.frame, (raw.forces**2).mean(axis=1)) / np.bincount(raw.frame))


def score_terms(
    known: Assessment, known_data: Dataset, reference_energies: Sequence[float], detected: list[dict[str, Detection]], criterion: str
) -> dict[str, float] | None:
    """The terms of the unified score, or None where one of them cannot be told.

    Errors and calibration errors are those of the known set; calibration errors after scaling and level map where there is
    a calibration. AUROC: mean over the other sets, of `criterion`. Reference errors: RELATIVE_ERROR of the standard deviation
    of the energies less `reference_energies` (of the atoms of each structure, eV), and of the root mean square of the force
    components; they depend on the data alone, so that models on the same data can be compared.
    """
    quality = known.after_quality or known.before_quality
    if not detected or not all(criterion in one for one in detected) or not {"energy", "forces"} <= known.before.keys() & quality.keys():
        return None
    energies = known_data.energy - np.asarray(reference_energies)
    spread_energy, spread_forces = float(np.std(energies)), rmse(np.concatenate(known_data.forces))
    rmse_energy, rmse_forces = known.evaluation.energy.rmse, known.evaluation.forces.rmse
    if not (spread_energy > 0 and spread_forces > 0) or np.isnan([rmse_energy, rmse_forces]).any():
        return None
    ce_energy, ce_forces = (quality[name].calibration_error.value for name in ("energy", "forces"))
    errors = Errors(rmse_energy, rmse_forces, ce_energy, ce_forces)
    mean_auroc = float(np.mean([scores[criterion].auroc for scores in detected]))
    return unified_terms(errors, mean_auroc, RELATIVE_ERROR * spread_energy, RELATIVE_ERROR * spread_forces)


@dataclass(frozen=True, eq=False)
class Comparison:
    """A model on the data that it should know, the first, and on others, all by file.

    ========= ==============================================================================================
    field     meaning
    ========= ==============================================================================================
    sets      file → Dataset
    found     file → Assessment of all of it
    overlaps  file → Overlap with what the model has seen before; {} where nobody asked
    unseen    file → Assessment without the structures that were seen, of files in which some but not all were
    detected  file → score → Detection, for each but the first
    criterion the score that the monitor watches first, or ""
    terms     of the unified score, or None
    ========= ==============================================================================================

    `detected` and `terms` are of the unseen structures, of a file in which there are none of all.
    """

    sets: dict[str, Dataset]
    found: dict[str, Assessment]
    detected: dict[str, dict[str, Detection]]
    calibration: Calibration | None
    criterion: str
    terms: dict[str, float] | None
    overlaps: Mapping[str, Overlap] = field(default_factory=dict)
    unseen: Mapping[str, Assessment] = field(default_factory=dict)

    @property
    def judged(self) -> dict[str, Assessment]:
        """File → Assessment of the unseen structures, of all where none is unseen."""
        return self.found | dict(self.unseen)


def compare(
    predictor: Predictor,
    sets: dict[str, Dataset],
    found: dict[str, Assessment],
    reference_energies: Sequence[float] | None = None,
    overlaps: Mapping[str, Overlap] | None = None,
    unseen: Mapping[str, Assessment] | None = None,
) -> Comparison:
    """The other data sets against the first; `found`: each with the predictor's calibration, in the order of `sets`.

    `reference_energies`: eV, of the atoms of each known structure; None: there is no unified score. `overlaps`, `unseen`: as in Comparison.
    """
    overlaps, unseen = overlaps or {}, unseen or {}
    judged = found | dict(unseen)  # in the order of found
    first, *others = found
    known, thresholds = judged[first], thresholds_of(predictor)
    detected = {name: detections(known, judged[name], thresholds) for name in others}
    criterion, terms = next(iter(default_scores(known.evaluation.scores, thresholds)), ""), None
    if reference_energies is not None:
        rows = overlaps[first].unseen if first in unseen else range(len(sets[first]))
        energies = [reference_energies[i] for i in rows]
        terms = score_terms(known, sets[first].subset(rows), energies, list(detected.values()), criterion)
    return Comparison(sets, found, detected, calibration_of(predictor), criterion, terms, overlaps, unseen)
