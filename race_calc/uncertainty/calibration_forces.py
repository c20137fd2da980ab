"""What recalibrates the covariances of forces: one factor, or shape × size. NumPy and SciPy only."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from race_calc.uncertainty.conformal import ConformalQuantile, conformal_quantile
from race_calc.uncertainty.held_back import Told, held_back, prefers, told
from race_calc.uncertainty.level_map import FLAT, LevelMap, central_interval, ellipsoid_radius, fit_level_map
from race_calc.uncertainty.metrics import LEVELS, chi_square_pit, gaussian_pit, mahalanobis, vector_nlls
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.scaling import covariance_scale, size_scale
from race_calc.uncertainty.shape_size import ForceSpread, ShapeSize, fit_shape_size

FEW_FOR_FORCES = 5  # independent members without an aleatoric part, for which the mean of dᵀ Σ⁻¹ d does not exist
FACTOR, SHAPE_SIZE = "one factor", "shape × size"


@dataclass(frozen=True)
class ForceCalibration:
    """What the covariance is recalibrated with, level maps of components and of χ²₃, and conformal quantiles of √(dᵀ Σ⁻¹ d).

    `form`: shape × size, or None for the factor `scale`, Σ → scale Σ, which also serves where a prediction has no spread of members.
    `held_back`: mean NLL in nat per atom of structures held back, why. `ellipsoids` is None and `conformal` empty where the covariances
    are the spread of few members (FEW_FOR_FORCES) times a factor, or not positive definite: then only the components are calibrated.
    """

    scale: float
    levels: LevelMap
    ellipsoids: LevelMap | None
    conformal: tuple[ConformalQuantile, ...]
    form: ShapeSize | None = None
    held_back: tuple[Told, ...] = ()

    @property
    def way(self) -> str:
        """What recalibrates, by its name in `held_back`."""
        return FACTOR if self.form is None else SHAPE_SIZE

    def interval(self, level: float) -> tuple[float, float]:
        """z_low, z_high: a share `level` of components is found from F + z_low σ to F + z_high σ, σ being the calibrated one."""
        return central_interval(level, self.levels)

    def radius(self, level: float) -> float:
        """r: a share `level` of force vectors has dᵀ Σ⁻¹ d ≤ r², Σ being calibrated. Raises ValueError without a map of ellipsoids."""
        if self.ellipsoids is None:
            raise ValueError("the covariances are those of too few members, or not positive definite: use interval()")
        return ellipsoid_radius(level, self.ellipsoids)

    def parts(
        self, epistemic: np.ndarray | None, aleatoric: np.ndarray | None, nearby: np.ndarray | None, numbers: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Recalibrated parts of the covariance, (N, 3, 3) (eV/Å)²; their sum is the recalibrated total. The rest as in ForceSpread."""
        if self.form is not None and epistemic is not None and nearby is not None:
            return self.form.parts(ForceSpread(epistemic, aleatoric, nearby, numbers))
        found = [None if part is None else self.scale * part for part in (epistemic, aleatoric)]
        return found[0], found[1]

    def total(self, raw: Residuals) -> np.ndarray | None:
        """The recalibrated covariance, (N, 3, 3) (eV/Å)²."""
        spread = spread_of(raw)
        if self.form is not None and spread is not None:
            return self.form.total(spread)
        return None if raw.forces_covariance is None else self.scale * raw.forces_covariance


def spread_of(raw: Residuals) -> ForceSpread | None:
    """None where the surroundings are not known."""
    if raw.forces_covariance is None or raw.forces_nearby is None:
        return None
    epistemic = raw.forces_covariance if raw.forces_aleatoric is None else raw.forces_covariance - raw.forces_aleatoric  # to rounding
    return ForceSpread(epistemic, raw.forces_aleatoric, raw.forces_nearby, raw.numbers)


def fit_forces(raw: Residuals) -> ForceCalibration | None:
    """The better of one factor and shape × size, by the likelihood of structures that each was not fitted to. None without covariances.

    Raises ValueError where the errors give no scale.
    """
    if raw.forces_covariance is None:
        return None
    found = held_back(raw, {FACTOR: _of_factor, SHAPE_SIZE: _of_shape_size})
    scale, definite = _factor(raw)
    form = _shape_size(raw) if prefers(found, FACTOR, SHAPE_SIZE, 3) else None
    definite = definite or form is not None
    plain = ForceCalibration(scale, FLAT, None, (), form, told(found))
    scaled = replace(raw, forces_covariance=plain.total(raw))
    std = scaled.forces_std
    assert std is not None and scaled.forces_covariance is not None
    levels = fit_level_map(gaussian_pit(np.concatenate([raw.forces, -raw.forces]), np.concatenate([std, std])))
    if not definite:
        return replace(plain, levels=levels)
    squared = mahalanobis(raw.forces, scaled.forces_covariance)
    conformal = tuple(conformal_quantile(np.sqrt(squared), level, raw.frame) for level in LEVELS)
    return replace(plain, levels=levels, ellipsoids=fit_level_map(chi_square_pit(squared)), conformal=conformal)


def _factor(raw: Residuals) -> tuple[float, bool]:
    """The factor of the covariance, and whether it makes ellipsoids."""
    total = raw.forces_std
    assert total is not None and raw.forces_covariance is not None
    squared = mahalanobis(raw.forces, raw.forces_covariance)
    few = raw.forces_members is not None and raw.forces_members <= FEW_FOR_FORCES
    definite = not few and not (np.isinf(squared) & np.isfinite(raw.forces).all(axis=-1)).any()
    by_size = raw.forces_members is not None or not definite
    return (size_scale(raw.forces, total) if by_size else covariance_scale(raw.forces, raw.forces_covariance)), definite


def _shape_size(raw: Residuals) -> ShapeSize:
    spread = spread_of(raw)
    if spread is None:
        raise ValueError("the surroundings of the atoms are not known")
    return fit_shape_size(raw.forces, spread)


def _of_factor(known: Residuals) -> Callable[[Residuals], np.ndarray]:
    return partial(_nll, ForceCalibration(_factor(known)[0], FLAT, None, ()))


def _of_shape_size(known: Residuals) -> Callable[[Residuals], np.ndarray]:
    return partial(_nll, ForceCalibration(1.0, FLAT, None, (), _shape_size(known)))


def _nll(calibration: ForceCalibration, new: Residuals) -> np.ndarray:
    """Of every structure (B,): the mean over its atoms."""
    covariance = calibration.total(new)
    assert covariance is not None
    return np.bincount(new.frame, vector_nlls(new.forces, covariance)) / np.bincount(new.frame)
