"""Errors, likelihood, coverage and scores of predictions of a labelled data set. Imports no torch."""

from dataclasses import dataclass

import numpy as np

from race_calc.data.dataset import Dataset
from race_calc.evaluate.predict import Predicted, Progress, predict_dataset, residuals_of, scores_of, silent
from race_calc.uncertainty.metrics import LEVELS, calibration_error, coverage, gaussian_nll, mae, mean_sigma, rmse, vector_nll
from race_calc.uncertainty.predictor import BATCH, Predictor
from race_calc.uncertainty.residuals import Residuals


@dataclass(frozen=True)
class Quality:
    """How good the predictions of one quantity are; in its unit, None where the posterior does not give it.

    ================= ===================================================================================
    field             meaning
    ================= ===================================================================================
    mae, rmse         of the differences
    sigma             mean predicted standard deviation, total (epistemic + aleatoric)
    nll               Gaussian negative log likelihood in nat, with the ½ log 2π of each dimension; the
                      density is per unit of the quantity in eV and Å. Infinite for a singular covariance
    coverage          level → share of the differences inside the central interval
    calibration_error mean squared difference of nominal and observed levels; forces per component
    ================= ===================================================================================
    """

    mae: float
    rmse: float
    sigma: float | None = None
    nll: float | None = None
    coverage: dict[float, float] | None = None
    calibration_error: float | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A posterior on one data set of B structures.

    =============== ========================= ======= ============================================
    field           shape                     unit    meaning
    =============== ========================= ======= ============================================
    structures      int                               B
    atoms           int                               of all structures together
    stresses        int                               structures with a stress label and a volume
    energy          Quality                   eV      total energy; NLL per structure
    energy_per_atom Quality (no likelihood)   eV      differences and sigma divided by the atoms
    forces          Quality                   eV/Å    components; NLL per atom, full covariance
    stress          Quality or None           eV/Å³   six components; NLL per structure, full covariance
    scores          criterion → (B,)                  see race_calc.uncertainty.scores
    =============== ========================= ======= ============================================
    """

    structures: int
    atoms: int
    stresses: int
    energy: Quality
    energy_per_atom: Quality
    forces: Quality
    stress: Quality | None
    scores: dict[str, np.ndarray]


def summarise(predicted: Predicted, residuals: Residuals, dataset: Dataset) -> Evaluation:
    """Errors, likelihood, coverage and scores of predictions with these residuals."""
    sizes = np.bincount(residuals.frame)
    std = residuals.energy_std
    energy, variance, forces, covariance = residuals.energy, residuals.energy_variance, residuals.forces, residuals.forces_covariance
    return Evaluation(
        structures=len(dataset),
        atoms=int(sizes.sum()),
        stresses=int(residuals.stress_labelled.sum()),
        energy=_quality(energy, std, None if variance is None else gaussian_nll(energy, variance)),
        energy_per_atom=Quality(mae(energy / sizes), rmse(energy / sizes), None if std is None else mean_sigma(std / sizes)),
        forces=_quality(forces, residuals.forces_std, None if covariance is None else vector_nll(forces, covariance)),
        stress=_stress_quality(residuals),
        scores=scores_of(predicted),
    )


def evaluate_dataset(predictor: Predictor, dataset: Dataset, batch: int = BATCH, progress: Progress = silent) -> Evaluation:
    """`summarise` of `predict_dataset`, which takes the same arguments."""
    predicted = predict_dataset(predictor, dataset, batch, progress)
    return summarise(predicted, residuals_of(predicted, dataset), dataset)


def _quality(difference: np.ndarray, std: np.ndarray | None, nll: float | None) -> Quality:
    if std is None:
        return Quality(mae(difference), rmse(difference))
    covered = {level: coverage(difference, std, level) for level in LEVELS}
    return Quality(mae(difference), rmse(difference), mean_sigma(std), nll, covered, calibration_error(difference, std))


def _stress_quality(residuals: Residuals) -> Quality | None:
    """Of the Voigt components of the structures with a label; the likelihood too is that of their density."""
    labelled, std, covariance = residuals.stress_labelled, residuals.stress_std, residuals.stress_covariance
    if residuals.stress is None or not labelled.any():
        return None
    difference = residuals.stress[labelled]
    if std is None or covariance is None:
        return _quality(difference, None, None)
    return _quality(difference, std[labelled], vector_nll(difference, covariance[labelled]))
