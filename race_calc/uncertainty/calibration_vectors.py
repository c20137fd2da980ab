"""What recalibrates covariances of vectors, forces or stresses: one factor, or shape × size. NumPy and SciPy only."""

import warnings
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
from race_calc.uncertainty.shape_size import ShapeSize, VectorSpread, fit_shape_size
from race_calc.uncertainty.vectors import Vectors, forces_of, stresses_of

FEW = 2  # members more than the vector has numbers, without an aleatoric part: the mean of dᵀ Σ⁻¹ d does not exist
FEWEST = 10  # structures with a stress
FACTOR, SHAPE_SIZE = "one factor", "shape × size"
Which = Callable[[Residuals], Vectors | None]  # forces_of or stresses_of


@dataclass(frozen=True)
class VectorCalibration:
    """What the covariance is recalibrated with, level maps of components and of χ²_k, and conformal quantiles of √(dᵀ Σ⁻¹ d).

    `form`: shape × size, or None for the factor `scale`, Σ → scale Σ, which also serves where a prediction has no spread of members.
    `held_back`: mean NLL in nat per vector of structures held back, why. `ellipsoids` is None and `conformal` empty where the covariances
    are the spread of few members (FEW) times a factor, or not positive definite: then only the components are calibrated.
    `dimension`: k, 3 of forces and 6 of stresses.
    """

    scale: float
    levels: LevelMap
    ellipsoids: LevelMap | None
    conformal: tuple[ConformalQuantile, ...]
    form: ShapeSize | None = None
    held_back: tuple[Told, ...] = ()
    dimension: int = 3

    @property
    def way(self) -> str:
        """What recalibrates, by its name in `held_back`."""
        return FACTOR if self.form is None else SHAPE_SIZE

    def interval(self, level: float) -> tuple[float, float]:
        """z_low, z_high: a share `level` of components is found from F + z_low σ to F + z_high σ, σ being the calibrated one."""
        return central_interval(level, self.levels)

    def radius(self, level: float) -> float:
        """r: a share `level` of vectors has dᵀ Σ⁻¹ d ≤ r², Σ being calibrated. Raises ValueError without a map of ellipsoids."""
        if self.ellipsoids is None:
            raise ValueError("the covariances are those of too few members, or not positive definite: use interval()")
        return ellipsoid_radius(level, self.ellipsoids, self.dimension)

    def parts(
        self, epistemic: np.ndarray | None, aleatoric: np.ndarray | None, spread: VectorSpread | None
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Recalibrated parts of the covariance, (N, k, k), which add up to the total. `spread`: of the same parts, where it is known."""
        if self.form is not None and spread is not None:
            return self.form.parts(spread)
        found = [None if part is None else self.scale * part for part in (epistemic, aleatoric)]
        return found[0], found[1]

    def total(self, vectors: Vectors) -> np.ndarray:
        """The recalibrated covariance, (N, k, k)."""
        if self.form is not None and vectors.spread is not None:
            return self.form.total(vectors.spread)
        return self.scale * vectors.covariance


def fit_forces(raw: Residuals) -> VectorCalibration | None:
    """The better of one factor and shape × size, by the likelihood of structures that each was not fitted to. None without covariances.

    Raises ValueError where the errors give no scale.
    """
    return None if forces_of(raw) is None else _fit(raw, forces_of)


def fit_stress(raw: Residuals) -> VectorCalibration | None:
    """The same of stresses; None for fewer than FEWEST structures with a label, and, with a warning, where the errors give no scale."""
    if raw.stress_covariance is None:
        return None
    labelled = np.flatnonzero(raw.stress_labelled & np.isfinite(raw.stress_covariance).all(axis=(1, 2)))
    if len(labelled) < FEWEST:
        return None
    try:
        return _fit(raw.subset(labelled), stresses_of)
    except ValueError as error:
        warnings.warn(f"stresses are not calibrated, the rest is: {error}", stacklevel=2)
        return None


def _fit(raw: Residuals, which: Which) -> VectorCalibration:
    vectors = _told(which, raw)
    found = held_back(raw, {FACTOR: partial(_of_factor, which), SHAPE_SIZE: partial(_of_shape_size, which)})
    dimension = vectors.difference.shape[1]
    scale, definite = _factor(vectors)
    form = _shape_size(vectors) if prefers(found, FACTOR, SHAPE_SIZE, dimension) else None
    plain = VectorCalibration(scale, FLAT, None, (), form, told(found), dimension)
    covariance = plain.total(vectors)
    std = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    both = np.concatenate([vectors.difference, -vectors.difference])  # components have no preferred sign
    levels = fit_level_map(gaussian_pit(both, np.concatenate([std, std])))
    if not definite and form is None:
        return replace(plain, levels=levels)
    squared = mahalanobis(vectors.difference, covariance)
    conformal = tuple(conformal_quantile(np.sqrt(squared), level, vectors.frame) for level in LEVELS)
    return replace(plain, levels=levels, ellipsoids=fit_level_map(chi_square_pit(squared, dimension)), conformal=conformal)


def _factor(vectors: Vectors) -> tuple[float, bool]:
    """The factor of the covariance, and whether it makes ellipsoids."""
    difference, covariance = vectors.difference, vectors.covariance
    squared = mahalanobis(difference, covariance)
    few = vectors.members is not None and vectors.members <= difference.shape[1] + FEW
    definite = not few and not (np.isinf(squared) & np.isfinite(difference).all(axis=-1)).any()
    if vectors.members is not None or not definite:
        return size_scale(difference, vectors.std), definite
    return covariance_scale(difference, covariance), definite


def _shape_size(vectors: Vectors) -> ShapeSize:
    if vectors.spread is None:
        raise ValueError("the surroundings of the atoms are not known")
    return fit_shape_size(vectors.difference, vectors.spread)


def _of_factor(which: Which, known: Residuals) -> Callable[[Residuals], np.ndarray]:
    return partial(_nll, which, VectorCalibration(_factor(_told(which, known))[0], FLAT, None, ()))


def _of_shape_size(which: Which, known: Residuals) -> Callable[[Residuals], np.ndarray]:
    return partial(_nll, which, VectorCalibration(1.0, FLAT, None, (), _shape_size(_told(which, known))))


def _nll(which: Which, calibration: VectorCalibration, new: Residuals) -> np.ndarray:
    """Of every structure (B,): the mean over its vectors."""
    vectors = _told(which, new)
    return np.bincount(vectors.frame, vector_nlls(vectors.difference, calibration.total(vectors))) / np.bincount(vectors.frame)


def _told(which: Which, raw: Residuals) -> Vectors:
    vectors = which(raw)
    assert vectors is not None  # whoever calls knows that there are covariances
    return vectors
