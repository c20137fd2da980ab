"""Forces of atoms, or stresses of structures, as vectors with what was predicted for them: what calibrations of vectors are made of. NumPy
only."""

from dataclasses import dataclass

import numpy as np

from race_calc.uncertainty.mandel import mandel_covariance, mandel_vectors
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.shape_size import VectorSpread, mean_variance


@dataclass(frozen=True, eq=False)
class Vectors:
    """N vectors of k numbers.

    ========== =============== ==============================================================
    field      shape           meaning
    ========== =============== ==============================================================
    difference (N, k)          reference − prediction
    covariance (N, k, k)       predicted, total
    frame      (N,)            structure of each
    spread     VectorSpread    the parts of the covariance; None where the surroundings are not known
    members    int or None     independent members whose spread is all of the covariance
    ========== =============== ==============================================================
    """

    difference: np.ndarray
    covariance: np.ndarray
    frame: np.ndarray
    spread: VectorSpread | None
    members: int | None

    @property
    def std(self) -> np.ndarray:
        """Predicted standard deviation of each component, (N, k)."""
        return np.asarray(np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2)))


def forces_of(raw: Residuals) -> Vectors | None:
    """None without covariances."""
    if raw.forces_covariance is None:
        return None
    spread = None
    if raw.forces_nearby is not None:
        spread = VectorSpread(_less(raw.forces_covariance, raw.forces_aleatoric), raw.forces_aleatoric, raw.forces_nearby, raw.numbers)
    return Vectors(raw.forces, raw.forces_covariance, raw.frame, spread, raw.forces_members)


def stresses_of(raw: Residuals) -> Vectors | None:
    """Of the structures that have a label, in Mandel notation, in which covariances turn with the structure; None without any."""
    labelled = raw.stress_labelled
    if raw.stress is None or raw.stress_covariance is None or not labelled.any():
        return None
    aleatoric = None if raw.stress_aleatoric is None else mandel_covariance(raw.stress_aleatoric[labelled])
    covariance = mandel_covariance(raw.stress_covariance[labelled])
    return Vectors(
        mandel_vectors(raw.stress[labelled]), covariance, np.flatnonzero(labelled), stress_spread(covariance, aleatoric), raw.stress_members
    )


def stress_spread(covariance: np.ndarray, aleatoric: np.ndarray | None) -> VectorSpread:
    """Of total covariances (S, 6, 6) and their aleatoric part, Mandel; a stress has no surroundings but itself."""
    epistemic = _less(covariance, aleatoric)
    return VectorSpread(epistemic, aleatoric, np.maximum(mean_variance(epistemic), 0.0))


def _less(total: np.ndarray, aleatoric: np.ndarray | None) -> np.ndarray:
    return total if aleatoric is None else total - aleatoric  # to rounding
