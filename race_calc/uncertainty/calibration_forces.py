"""What recalibrates the covariances of forces: one factor, or shape × size. NumPy and SciPy only."""

from dataclasses import dataclass, replace

import numpy as np

from race_calc.uncertainty.conformal import ConformalQuantile, conformal_quantile
from race_calc.uncertainty.level_map import LevelMap, central_interval, ellipsoid_radius, fit_level_map
from race_calc.uncertainty.metrics import LEVELS, chi_square_pit, gaussian_pit, mahalanobis, vector_nll
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.scaling import covariance_scale, size_scale
from race_calc.uncertainty.shape_size import ForceSpread, ShapeSize, fit_shape_size

FEW_FOR_FORCES = 5  # independent members without an aleatoric part, for which the mean of dᵀ Σ⁻¹ d does not exist
FLAT = LevelMap((0.0, 1.0))  # changes nothing
FOLDS = 5  # blocks of consecutive structures, each held back once: which of the two is better


@dataclass(frozen=True)
class HeldBack:
    """Mean NLL in nat per atom of the calibration data, each block by a fit to the others; infinite where a Σ has no density."""

    factor: float
    shape_size: float


@dataclass(frozen=True)
class ForceCalibration:
    """What the covariance is recalibrated with, level maps of components and of χ²₃, and conformal quantiles of √(dᵀ Σ⁻¹ d).

    `form`: shape × size, or None for the factor `scale`, Σ → scale Σ, which also serves where a prediction has no spread of members.
    `held_back`: why; None where only the factor can be had. `ellipsoids` is None and `conformal` empty where the covariances are the
    spread of few members (FEW_FOR_FORCES) times a factor, or not positive definite: then only the components are calibrated.
    """

    scale: float
    levels: LevelMap
    ellipsoids: LevelMap | None
    conformal: tuple[ConformalQuantile, ...]
    form: ShapeSize | None = None
    held_back: HeldBack | None = None

    def interval(self, level: float) -> tuple[float, float]:
        """z_low, z_high: a share `level` of components is found from F + z_low σ to F + z_high σ, σ being the calibrated one."""
        return central_interval(level, self.levels)

    def radius(self, level: float) -> float:
        """r: a share `level` of force vectors has dᵀ Σ⁻¹ d ≤ r², Σ being calibrated. Raises ValueError without a map of ellipsoids."""
        if self.ellipsoids is None:
            raise ValueError("the covariances are those of too few members, or not positive definite: use interval()")
        return ellipsoid_radius(level, self.ellipsoids)

    def parts(
        self, epistemic: np.ndarray | None, aleatoric: np.ndarray | None, nearby: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Recalibrated parts of the covariance, (N, 3, 3) (eV/Å)²; their sum is the recalibrated total. `nearby` as in ForceSpread."""
        if self.form is not None and epistemic is not None and nearby is not None:
            return self.form.parts(ForceSpread(epistemic, aleatoric, nearby))
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
    epistemic = raw.forces_covariance if raw.forces_aleatoric is None else raw.forces_covariance - raw.forces_aleatoric
    return ForceSpread(epistemic, raw.forces_aleatoric, raw.forces_nearby)


def fit_forces(raw: Residuals) -> ForceCalibration | None:
    """The better of one factor and shape × size, by the likelihood of structures that each was not fitted to. None without covariances.

    Raises ValueError where the errors give no scale.
    """
    if raw.forces_covariance is None:
        return None
    scale, definite = _factor(raw)
    held_back, form = _held_back(raw), None
    if held_back is not None and held_back.shape_size < held_back.factor:
        form, definite = _shape_size(raw), True
    plain = ForceCalibration(scale, FLAT, None, (), form, held_back)
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


def _held_back(raw: Residuals) -> HeldBack | None:
    """None where shape × size cannot be had."""
    if spread_of(raw) is None or len(raw) < FOLDS:
        return None
    structures, sums = np.arange(len(raw)), np.zeros(2)
    for block in np.array_split(structures, FOLDS):
        known, new = raw.subset(np.setdiff1d(structures, block)), raw.subset(block)
        try:
            form = _shape_size(known)
        except ValueError:
            return None
        for k, one in enumerate((None, form)):
            covariance = ForceCalibration(_factor(known)[0], FLAT, None, (), one).total(new)
            assert covariance is not None
            sums[k] += len(new.forces) * vector_nll(new.forces, covariance)
    return HeldBack(*(float(each) for each in sums / len(raw.forces)))
