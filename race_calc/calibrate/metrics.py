"""How large the errors are, and whether the predicted uncertainties tell it. NumPy only.

Every function takes plain arrays, so the numbers of any model can be passed in. `difference` is reference
minus prediction (the sign does not matter); units are the caller's. Values that are not finite pass through.

=================== ======================= ===================================================
quantity            variable                formula
=================== ======================= ===================================================
d                   difference              reference − prediction
σ², Σ               variance, covariance    predicted (co)variance of d
NLL, one number     gaussian_nll            mean ½ [d²/σ² + log σ² + log 2π]
NLL, vector of k    vector_nll              mean ½ [dᵀ Σ⁻¹ d + log det Σ + k log 2π]
coverage at level p coverage                share of |d| ≤ z σ, z = Φ⁻¹((1 + p)/2)
=================== ======================= ===================================================

The likelihoods are those of a Gaussian (Nix & Weigend 1994) with its constants, unlike the training loss
of method.md section 3, which leaves out log 2π and weights its terms. All functions raise ValueError for
empty input and for shapes that do not fit together.
"""

from statistics import NormalDist

import numpy as np

LEVELS = (0.68, 0.90, 0.95)
SINGULAR = 1e-12  # smallest over largest eigenvalue below which a covariance counts as singular
_LOG_2PI = float(np.log(2.0 * np.pi))


def rmse(difference: np.ndarray) -> float:
    """Root of the mean square over all entries of `difference` (any shape)."""
    return float(np.sqrt(np.mean(_array(difference) ** 2)))


def mae(difference: np.ndarray) -> float:
    """Mean absolute value over all entries of `difference` (any shape)."""
    return float(np.mean(np.abs(_array(difference))))


def mean_sigma(std: np.ndarray) -> float:
    """Mean predicted standard deviation over all entries of `std` (any shape)."""
    return float(np.mean(_array(std)))


def gaussian_nll(difference: np.ndarray, variance: np.ndarray) -> float:
    """Mean negative log likelihood in nat per entry; `difference` and `variance` of one shape.

    The value depends on the unit: it is the log of a density. Infinite where a variance is not positive
    (a prediction that claims to be exact), NaN where an entry is NaN.
    """
    difference, variance = _pair(difference, variance, "variance")
    safe = np.where(variance > 0, variance, 1.0)
    each = 0.5 * (difference**2 / safe + np.log(safe) + _LOG_2PI)
    return float(np.mean(_or_infinite(each, variance > 0, difference, variance)))


def vector_nll(difference: np.ndarray, covariance: np.ndarray) -> float:
    """Mean negative log likelihood in nat per vector; `difference` (..., k), `covariance` (..., k, k).

    Infinite where a covariance is not positive definite: that of k members or fewer, with no aleatoric part, has
    no density. NaN where an entry is NaN.
    """
    difference, covariance = _array(difference), np.asarray(covariance, dtype=np.float64)
    if difference.ndim < 1 or covariance.shape != (*difference.shape, difference.shape[-1]):
        raise ValueError(f"covariance has the shape {covariance.shape}, the differences {difference.shape}: "
                         "give one k × k matrix for each vector of k")
    finite = np.isfinite(covariance).all(axis=(-2, -1))
    k = difference.shape[-1]
    values, vectors = np.linalg.eigh(np.where(finite[..., None, None], covariance, np.eye(k)))  # eigh raises on NaN
    definite = values[..., 0] > SINGULAR * values[..., -1]
    safe = np.where(definite[..., None], values, 1.0)
    along = np.einsum("...ij,...i->...j", vectors, difference)  # components on the principal axes
    each = 0.5 * (along**2 / safe + np.log(safe)).sum(axis=-1) + 0.5 * k * _LOG_2PI
    spread = np.where(finite, values[..., -1], np.nan)
    return float(np.mean(_or_infinite(each, definite, difference.sum(axis=-1), spread)))


def coverage(difference: np.ndarray, std: np.ndarray, level: float) -> float:
    """Share (0 to 1) of entries inside the central Gaussian interval of probability `level`.

    `difference` and `std` have one shape. An entry that is NaN counts as outside.
    Raises ValueError for a level outside 0 < level < 1.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"the level is {level}: give a probability between 0 and 1")
    difference, std = _pair(difference, std, "std")
    return float(np.mean(np.abs(difference) <= NormalDist().inv_cdf(0.5 * (1.0 + level)) * std))


def _or_infinite(each, positive, *inputs):
    known = np.all([~np.isnan(values) for values in inputs], axis=0)
    return np.where(known, np.where(positive, each, np.inf), np.nan)


def _array(values) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        raise ValueError("there are no values to take a mean of: give at least one")
    return values


def _pair(difference, other, name: str) -> tuple[np.ndarray, np.ndarray]:
    difference, other = _array(difference), np.asarray(other, dtype=np.float64)
    if difference.shape != other.shape:
        raise ValueError(f"{name} has the shape {other.shape}, the differences {difference.shape}: give the same shape")
    return difference, other
