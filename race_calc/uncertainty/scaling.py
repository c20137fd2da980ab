"""Correct the scale of predicted uncertainties with data held back from training. NumPy and SciPy only.

=================== ======================= ===========================================================
quantity            variable                formula
=================== ======================= ===========================================================
c                   variance_scale          mean d²/σ², minimises the Gaussian NLL of c σ²
c_e ≥ c_a           part_scales             minimise that of c_e σ²_e + c_a σ²_a, σ²_e + σ²_a = σ²
c                   covariance_scale        mean dᵀ Σ⁻¹ d / k, minimises that of c Σ
c                   size_scale              Σ d² / Σ σ², for the spread of members
=================== ======================= ===========================================================

Factors are one of two ways to recalibrate; the other is `shape_size` and `energy_size`. That of forces is one number, so that c Σ stays
positive definite and turns with the molecule, c QΣQᵀ; that of energies is one for each part of the variance, because the aleatoric part is
often much too large and would, with one number, take the epistemic part down with it, the only one that grows out of distribution.
"""

import numpy as np

from race_calc.uncertainty.metrics import mahalanobis, pair

RATIOS = 10.0 ** np.linspace(-3.0, 0.0, 61)  # of the two factors of a variance, aleatoric to epistemic; below, σ_a is nothing


def variance_scale(difference: np.ndarray, variance: np.ndarray) -> float:
    """c = mean d²/σ², the factor of the variance that minimises `gaussian_nll`; two arrays of one shape.

    With n independent values it is known to about √(2/n) of itself, worse where errors have heavy tails. Raises ValueError for empty or
    unequal shapes, variances that are not positive and finite, and errors that are not finite or all zero.
    """
    difference, variance = pair(difference, variance, "variance")
    wrong = ~((variance > 0) & np.isfinite(variance))
    if wrong.any():
        raise ValueError(
            f"{wrong.sum()} of {wrong.size} variances are not positive and finite: a model that claims "
            "to be exact cannot be scaled; give it an aleatoric part or leave these values out"
        )
    return _scale(difference**2 / variance)


def part_scales(difference: np.ndarray, epistemic: np.ndarray, aleatoric: np.ndarray) -> tuple[float, float]:
    """c_e ≥ c_a > 0: factors of the two parts of a variance, by the Gaussian NLL; three arrays of one shape.

    The epistemic part is never cut more than the aleatoric one: known data often cannot tell which of the two is too large, and only the
    epistemic part can warn of unknown ones. For each ratio c_a/c_e of RATIOS the common factor is known, c_e = mean d²/(σ²_e + (c_a/c_e)
    σ²_a); the ratio with the smallest NLL is taken. A part that is zero everywhere has nothing to scale: both factors are then
    `variance_scale` of the sum. Raises ValueError as `variance_scale` does for the sum of the parts, and for a part that is negative.
    """
    epistemic, aleatoric = np.asarray(epistemic, dtype=np.float64), np.asarray(aleatoric, dtype=np.float64)
    one = variance_scale(difference, epistemic + aleatoric)
    if (epistemic < 0).any() or (aleatoric < 0).any():
        raise ValueError("a part of the variance is negative: give variances")
    if not (epistemic.any() and aleatoric.any()):
        return one, one
    squared, best = np.asarray(difference, dtype=np.float64) ** 2, (np.inf, one, one)
    for ratio in RATIOS:
        variance = epistemic + ratio * aleatoric
        if not (variance > 0).all():
            continue
        scale = float(np.mean(squared / variance))
        nll = np.log(scale) + float(np.mean(np.log(variance)))
        if nll < best[0]:
            best = (nll, scale, ratio * scale)
    return best[1:]


def size_scale(difference: np.ndarray, std: np.ndarray) -> float:
    """c = Σ d² / Σ σ², after which the root mean square of σ is that of the errors; two arrays of one shape.

    For variances that are the spread of M members and nothing else. Such a σ̂² is right on average, 1/σ̂² is not: d²/σ̂² follows an F
    distribution with M − 1 degrees of freedom below, its mean is larger than that of d²/σ² by (M − 1)/(M − 3) (dᵀ Σ̂⁻¹ d of
    vectors of three, the inverse Wishart distribution: (M − 1)/(M − 5)) and infinite for three members or fewer (five). So
    `variance_scale` and `covariance_scale` make σ too large. Sums are ruled by the largest structures where sizes differ.
    Raises ValueError as `variance_scale` does for sums that give no scale.
    """
    difference, std = pair(difference, std, "std")
    with np.errstate(divide="ignore", invalid="ignore"):
        return _scale(np.sum(difference**2) / np.sum(std**2))


def covariance_scale(difference: np.ndarray, covariance: np.ndarray) -> float:
    """c = mean dᵀ Σ⁻¹ d / k, the factor of Σ that minimises `vector_nll`; difference (..., k), covariance (..., k, k).

    Raises ValueError as `variance_scale` does, and for a Σ that is not positive definite.
    """
    squared = mahalanobis(difference, covariance)
    singular = np.isinf(squared) & np.isfinite(difference).all(axis=-1)
    if singular.any():
        raise ValueError(
            f"{singular.sum()} of {singular.size} covariances are not positive definite (k members or "
            "fewer, no aleatoric part?): scale the variances of the components with variance_scale"
        )
    return _scale(squared / np.shape(difference)[-1])


def _scale(squared: np.ndarray) -> float:
    scale = float(np.mean(squared))
    if not 0.0 < scale < np.inf:
        raise ValueError(
            f"the mean squared error is {scale} predicted variances, which is no scale: look for labels "
            "or predictions that are not finite, or labels that are the model's own predictions"
        )
    return scale
