"""How large the errors are, and whether the predicted uncertainties tell it. NumPy and SciPy only.

Every function takes plain arrays, so the numbers of any model can be passed in. `difference` is reference
minus prediction (the sign does not matter); units are the caller's. Values that are not finite pass through.

=================== ============================ ===================================================
quantity            variable                     formula
=================== ============================ ===================================================
d                   difference                   reference − prediction
σ², Σ               variance, covariance         predicted (co)variance of d
NLL, one number     gaussian_nll                 mean ½ [d²/σ² + log σ² + log 2π]
NLL, vector of k    vector_nll                   mean ½ [dᵀ Σ⁻¹ d + log det Σ + k log 2π]
d²_M                mahalanobis                  dᵀ Σ⁻¹ d, χ²_k distributed where Σ is right
sharpness           sharpness                    √ mean σ²
coverage at level p coverage                     share of |d| ≤ z σ, z = Φ⁻¹((1 + p)/2)
PIT                 gaussian_pit                 Φ(d/σ), uniform on 0 … 1 where σ is right
PIT, vector of k    chi_square_pit               F(d²_M), F the distribution function of χ²_k
p̂                   observed_levels              share of PIT ≤ p
CE                  level_error                  mean over the 99 levels p of (p − p̂)²
CE of numbers       calibration_error            CE of Φ(d/σ)
CE of vectors       whitened_calibration_error   CE of F(d²_M)
floor of CE         calibration_floor            (1/6)(1/n_calibration + 1/n_test)
=================== ============================ ===================================================

The likelihoods are those of a Gaussian (Nix & Weigend 1994) with its constants, unlike the training loss of docs/method.md section 3,
which leaves out log 2π and weights its terms. All functions raise ValueError for empty input and for shapes that do not fit together.
"""

from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import chdtr, ndtr

LEVELS = (0.68, 0.90, 0.95)
NOMINAL_LEVELS = np.arange(1, 100) / 100  # of the calibration error
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


def sharpness(std: np.ndarray) -> float:
    """Root mean square of the predicted standard deviations (any shape): how much a posterior claims to know.

    Of two calibrated posteriors the sharper one (smaller) is the better. It is equal to `rmse` where σ is right on
    average. Of the σ of force components it is √(mean tr Σ / 3), so it does not depend on orientation.
    """
    return rmse(std)


def gaussian_nll(difference: np.ndarray, variance: np.ndarray) -> float:
    """Mean negative log likelihood in nat per entry; `difference` and `variance` of one shape.

    The value depends on the unit: it is the log of a density. Infinite where a variance is not positive
    (a prediction that claims to be exact), NaN where an entry is NaN.
    """
    difference, variance = pair(difference, variance, "variance")
    safe = np.where(variance > 0, variance, 1.0)
    each = 0.5 * (difference**2 / safe + np.log(safe) + _LOG_2PI)
    return float(np.mean(_or_infinite(each, variance > 0, difference, variance)))


def vector_nll(difference: np.ndarray, covariance: np.ndarray) -> float:
    """Mean negative log likelihood in nat per vector; `difference` (..., k), `covariance` (..., k, k).

    Infinite where a covariance is not positive definite: that of k members or fewer, with no aleatoric part, has
    no density. NaN where an entry is NaN.
    """
    return float(np.mean(vector_nlls(difference, covariance)))


def vector_nlls(difference: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """That of each vector, (...,)."""
    squared, log_det = _on_principal_axes(difference, covariance)
    return np.asarray(0.5 * (squared + log_det + np.shape(difference)[-1] * _LOG_2PI))


def mahalanobis(difference: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """d² = dᵀ Σ⁻¹ d, no unit; `difference` (..., k), `covariance` (..., k, k) → (...,).

    The square of the difference in standard deviations of its own direction (Mahalanobis 1936). It is χ² distributed with k degrees of
    freedom where Σ is right, and does not depend on orientation. Infinite where Σ is not positive definite, NaN where an entry is NaN.
    """
    return _on_principal_axes(difference, covariance)[0]


def flat(squared: np.ndarray) -> bool:
    """Whether most `mahalanobis` distances are infinite: covariances of k members or fewer, with no aleatoric part, span no ellipsoid."""
    return bool(np.mean(np.isposinf(squared)) > 0.5)


def coverage(difference: np.ndarray, std: np.ndarray, level: float) -> float:
    """Share (0 to 1) of entries inside the central Gaussian interval of probability `level`.

    `difference` and `std` have one shape. An entry that is NaN counts as outside. Raises ValueError for a level outside 0 < level < 1.
    """
    check_probability(level, "level")
    difference, std = pair(difference, std, "std")
    return float(np.mean(np.abs(difference) <= NormalDist().inv_cdf(0.5 * (1.0 + level)) * std))


def check_probability(value: float, name: str) -> None:
    """Raise ValueError for a value outside 0 < value < 1."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"the {name} is {value}: give a probability between 0 and 1")


def gaussian_pit(difference: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Φ(d/σ), 0 to 1: the predicted level at which the reference was found; `difference` and `std` of one shape.

    The probability integral transform: uniform where the predicted Gaussians are right. It resolves −38 < d/σ < 8.
    """
    difference, std = pair(difference, std, "std")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(ndtr(difference / std))


def chi_square_pit(squared: np.ndarray, k: int = 3) -> np.ndarray:
    """F(d²), 0 to 1, of `mahalanobis` distances (any shape); F: distribution function of χ²_k. Resolves d² < 70."""
    return np.asarray(chdtr(k, _array(squared)))


def observed_levels(pit: np.ndarray) -> np.ndarray:
    """Shares p̂ (99,) of `pit` (any shape) at or below each of NOMINAL_LEVELS. NaN counts as above every level."""
    place = np.sort(_array(pit).ravel())  # NaN is sorted to the end
    return np.searchsorted(place, NOMINAL_LEVELS, side="right") / place.size


def level_error(pit: np.ndarray) -> float:
    """Mean squared difference of nominal and observed levels (Kuleshov et al. 2018) over the 99 levels 0.01 … 0.99.

    0 is perfect; it saturates at about 1/3 where all references lie far out on one side. `pit` of any shape may come
    from `gaussian_pit`, `chi_square_pit` or, recalibrated, from `LevelMap.observed` of one of them.
    """
    return float(np.mean((NOMINAL_LEVELS - observed_levels(pit)) ** 2))


def calibration_error(difference: np.ndarray, std: np.ndarray) -> float:
    """`level_error` of Φ(d/σ); `difference` and `std` of one shape. Force components are counted one by one."""
    return level_error(gaussian_pit(difference, std))


def whitened_calibration_error(difference: np.ndarray, covariance: np.ndarray) -> float:
    """`level_error` of d² against χ²_k; `difference` (..., k), `covariance` (..., k, k).

    Components alone do not see whether the directions of Σ are right: this does. A Σ that is not positive definite counts as far outside.
    """
    return level_error(chi_square_pit(mahalanobis(difference, covariance), np.shape(difference)[-1]))


def calibration_floor(n_calibration: float, n_test: float) -> float:
    """Mean calibration error of a perfect model on n_test frames, recalibrated with n_calibration independent ones.

    p̂ of n values has the variance p(1 − p)/n, whose mean over the levels is 1/(6 n). Without recalibration
    n_calibration is `math.inf`. Count independent frames, not values: the forces of one frame are dependent, to an
    unknown degree, so that the error of forces may lie below this floor. Raises ValueError for fewer than one frame.
    """
    if not (n_calibration >= 1 and n_test >= 1):
        raise ValueError(
            f"the floor needs at least one frame of each kind, got {n_calibration} for calibration and "
            f"{n_test} for testing: give math.inf for calibration if there was no recalibration"
        )
    return (1.0 / n_calibration + 1.0 / n_test) / 6.0


def _on_principal_axes(difference: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """dᵀ Σ⁻¹ d and log det Σ, both (...,); the second means nothing where the first is infinite or NaN."""
    difference, covariance = vectors_and_covariances(difference, covariance)
    finite = np.isfinite(covariance).all(axis=(-2, -1))
    unit = np.eye(difference.shape[-1])
    values, vectors = np.linalg.eigh(np.where(finite[..., None, None], covariance, unit))  # eigh raises on NaN
    definite = values[..., 0] > SINGULAR * values[..., -1]
    safe = np.where(definite[..., None], values, 1.0)
    along = np.einsum("...ij,...i->...j", vectors, difference)  # components on the principal axes
    spread = np.where(finite, values[..., -1], np.nan)
    squared = _or_infinite((along**2 / safe).sum(axis=-1), definite, difference.sum(axis=-1), spread)
    return squared, np.log(safe).sum(axis=-1)


def _or_infinite(each: np.ndarray, positive: np.ndarray, *inputs: np.ndarray) -> np.ndarray:
    numbers = np.all([~np.isnan(values) for values in inputs], axis=0)
    return np.where(numbers, np.where(positive, each, np.inf), np.nan)


def _array(values: npt.ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("there are no values to take a mean of: give at least one")
    return array


def pair(difference: npt.ArrayLike, other: npt.ArrayLike, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Both in float64. Raises ValueError for no differences, and where `other`, of this name, has another shape."""
    d, values = _array(difference), np.asarray(other, dtype=np.float64)
    if d.shape != values.shape:
        raise ValueError(f"{name} has the shape {values.shape}, the differences {d.shape}: give the same shape")
    return d, values


def vectors_and_covariances(difference: npt.ArrayLike, covariance: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(..., k) and (..., k, k) in float64. Raises ValueError for no differences, and shapes that do not fit together."""
    d, sigma = _array(difference), np.asarray(covariance, dtype=np.float64)
    if d.ndim < 1 or sigma.shape != (*d.shape, d.shape[-1]):
        raise ValueError(f"covariance has the shape {sigma.shape}, the differences {d.shape}: give one k × k matrix for each vector of k")
    return d, sigma
