"""Correct the scale and the levels of predicted uncertainties with data held back from training. NumPy and SciPy only.

=================== ======================= ===========================================================
quantity            variable                formula
=================== ======================= ===========================================================
c                   variance_scale          mean d²/σ², minimises the Gaussian NLL of c σ²
c_e ≥ c_a           part_scales             minimise that of c_e σ²_e + c_a σ²_a, σ²_e + σ²_a = σ²
c                   covariance_scale        mean dᵀ Σ⁻¹ d / k, minimises that of c Σ
c                   size_scale              Σ d² / Σ σ², for the spread of few members
u                   pit                     level at which a reference was found: Φ(d/σ) or F(d²_M)
R(p)                LevelMap.observed       share of references found at or below the nominal level p
R⁻¹(p)              LevelMap.nominal        nominal level below which the share p was found
z_low, z_high       central_interval        Φ⁻¹(R⁻¹((1 ∓ p)/2))
r                   ellipsoid_radius        r² = F⁻¹(R⁻¹(p)), F of χ²_k
=================== ======================= ===========================================================

First the scale, then the levels: no level tells what lies far out (d > 8 σ, d² > 70), so no map of levels does.
The scale of forces is one number, so that c Σ stays positive definite and turns with the molecule, c QΣQᵀ; that of energies is
one for each part of the variance, because the aleatoric part is often much too large and would, with one number, take
the epistemic part down with it, the only one that grows out of distribution (`docs/calibration.md` has both measured).
σ and Σ of a calibrated model are the scaled ones. The level map (Kuleshov, Fenner & Ermon 2018) leaves σ alone
and corrects the shape: which multiple of σ to take for an interval that holds a share p.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv, ndtri

from race_calc.uncertainty.metrics import check_probability, mahalanobis

INTERVALS = 500  # of a level map at most: steps of 0.2 %
RATIOS = 10.0 ** np.linspace(-3.0, 0.0, 61)  # of the two factors of a variance, aleatoric to epistemic; below, σ_a is nothing


def variance_scale(difference: np.ndarray, variance: np.ndarray) -> float:
    """c = mean d²/σ², the factor of the variance that minimises `gaussian_nll`; two arrays of one shape.

    With n independent values it is known to about √(2/n) of itself, worse where errors have heavy tails. Raises
    ValueError for empty or unequal shapes, variances that are not positive and finite, and errors that are not
    finite or all zero.
    """
    difference, variance = np.asarray(difference, dtype=np.float64), np.asarray(variance, dtype=np.float64)
    if difference.shape != variance.shape or difference.size == 0:
        raise ValueError(
            f"variance has the shape {variance.shape}, the differences {difference.shape}: give the same shape and at least one value"
        )
    wrong = ~((variance > 0) & np.isfinite(variance))
    if wrong.any():
        raise ValueError(
            f"{wrong.sum()} of {wrong.size} variances are not positive and finite: a model that claims "
            "to be exact cannot be scaled; give it an aleatoric part or leave these values out"
        )
    return _scale(difference**2 / variance)


def part_scales(difference: np.ndarray, epistemic: np.ndarray, aleatoric: np.ndarray) -> tuple[float, float]:
    """c_e ≥ c_a > 0: factors of the two parts of a variance, by the Gaussian NLL; three arrays of one shape.

    The epistemic part is never cut more than the aleatoric one: known data often cannot tell which of the two is too large, and
    only the epistemic part can warn of unknown ones. For each ratio c_a/c_e of RATIOS the common factor is known,
    c_e = mean d²/(σ²_e + (c_a/c_e) σ²_a); the ratio with the smallest NLL is taken. A part that is zero everywhere has nothing to scale: both factors are then `variance_scale` of the sum.

    Raises ValueError as `variance_scale` does for the sum of the parts, and for a part that is negative.
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

    For variances that are the spread of few members and nothing else: d²/σ² then follows an F distribution, whose mean is
    infinite for three members or fewer (dᵀ Σ⁻¹ d of vectors of three: for five), so `variance_scale` and `covariance_scale` give
    whatever the data hold as their worst accident. Raises ValueError as `variance_scale` does for sums that give no scale.
    """
    difference, std = np.asarray(difference, dtype=np.float64), np.asarray(std, dtype=np.float64)
    if difference.shape != std.shape or difference.size == 0:
        raise ValueError(f"std has the shape {std.shape}, the differences {difference.shape}: give the same shape, at least one value")
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


@dataclass(frozen=True)
class LevelMap:
    """Monotone map between nominal and observed levels, 0 → 0 and 1 → 1, linear between its knots.

    ===== ================ ==== ======================================================================
    field shape            unit meaning
    ===== ================ ==== ======================================================================
    knots (m + 1,), m ≥ 1  1    nominal levels whose observed levels are 0, 1/m, 2/m … 1; not decreasing
    ===== ================ ==== ======================================================================
    """

    knots: tuple[float, ...]

    def observed(self, nominal: np.ndarray) -> np.ndarray:
        """R(p): which share of references is found at or below these nominal levels (any shape, 0 to 1).

        Applied to `gaussian_pit` or `chi_square_pit` of new data it gives their recalibrated level.
        NaN stays NaN. Raises ValueError for levels outside 0 … 1.
        """
        nominal = _levels(nominal)
        return np.where(nominal == 0.0, 0.0, np.interp(nominal, self.knots, self._shares))

    def nominal(self, observed: np.ndarray) -> np.ndarray:
        """R⁻¹(p): the nominal level to ask the model for, to get these shares (any shape, 0 to 1).

        Raises ValueError for shares outside 0 … 1.
        """
        return np.interp(_levels(observed), self._shares, self.knots)

    def to_dict(self) -> dict:
        """Plain JSON types."""
        return {"knots": list(self.knots)}

    @classmethod
    def from_dict(cls, state: Mapping) -> "LevelMap":
        """Inverse of `to_dict`. Raises ValueError where the state is not a monotone map of 0 … 1."""
        try:
            knots = tuple(float(value) for value in state["knots"])
        except (KeyError, TypeError) as error:
            raise ValueError("a level map is {'knots': [0.0, …, 1.0]}: calibrate the model again") from error
        if len(knots) < 2 or knots[0] != 0.0 or knots[-1] != 1.0 or not all(a <= b for a, b in zip(knots, knots[1:])):
            raise ValueError("the knots of a level map must rise from 0 to 1: calibrate the model again")
        return cls(knots)

    @property
    def _shares(self) -> np.ndarray:
        return np.linspace(0.0, 1.0, len(self.knots))


def fit_level_map(pit: np.ndarray) -> LevelMap:
    """The map that makes `pit` (any shape; `gaussian_pit` of one number or `chi_square_pit` of vectors) uniform.

    The isotonic regression of observed on nominal levels: the i-th smallest of n is given the level i/(n + 1), which
    is monotone already. i/(n + 1) is what such a value covers on average, so the map agrees with
    `conformal_quantile`. More than INTERVALS − 1 values are thinned to evenly spaced observed levels.

    Raises ValueError for no values, and for values that are not levels.
    """
    pit = _levels(pit)
    if pit.size == 0 or np.isnan(pit).any():
        raise ValueError(
            f"{np.isnan(pit).sum()} of {pit.size} levels are NaN: give at least one, and leave out structures with broken predictions"
        )
    ordered = np.concatenate([[0.0], np.sort(pit, axis=None), [1.0]])
    shares = np.linspace(0.0, 1.0, min(pit.size + 1, INTERVALS) + 1)
    knots = np.interp(shares, np.linspace(0.0, 1.0, len(ordered)), ordered)
    return LevelMap(tuple(np.maximum.accumulate(knots).tolist()))  # rounding may lower one of several equal knots


IDENTITY = LevelMap((0.0, 1.0))


def central_interval(level: float, level_map: LevelMap = IDENTITY) -> tuple[float, float]:
    """z_low, z_high: a share `level` of references lies in prediction + z_low σ … prediction + z_high σ.

    For a map fitted to `gaussian_pit` of reference − prediction: with the other sign, the interval is mirrored.
    Beyond the most extreme level of the calibration data the map is a straight line to 0 and 1: with few data, far intervals
    are a guess, and `conformal_quantile` says so. Raises ValueError for a level outside 0 < level < 1.
    """
    check_probability(level, "level")
    low, high = ndtri(level_map.nominal([0.5 - 0.5 * level, 0.5 + 0.5 * level]))
    return float(low), float(high)


def ellipsoid_radius(level: float, level_map: LevelMap = IDENTITY, k: int = 3) -> float:
    """r: a share `level` of references lies where dᵀ Σ⁻¹ d ≤ r², for a map fitted to `chi_square_pit` with the same k.

    Beyond the data a guess, as `central_interval`. Raises ValueError for a level outside 0 < level < 1.
    """
    check_probability(level, "level")
    return float(np.sqrt(2.0 * gammaincinv(0.5 * k, level_map.nominal(level))))


def _levels(values) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if ((values < 0.0) | (values > 1.0)).any():
        raise ValueError("levels must lie between 0 and 1: give probabilities, such as gaussian_pit or chi_square_pit")
    return values
