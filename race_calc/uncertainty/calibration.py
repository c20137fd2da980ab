"""Everything that recalibrates one model: fitted once on held-back data, kept with the model. NumPy and SciPy only.

=================== ======================= ===========================================================
quantity            variable                from
=================== ======================= ===========================================================
c_e, c_a            energy.epistemic, …     `part_scales`: σ² = σ²_e + σ²_a → c_e σ²_e + c_a σ²_a
c_F                 forces.scale            `covariance_scale`: Σ → c_F Σ
c_e = c_a, c_F                              `size_scale` where a variance is the spread of members and nothing else
R_E, R_F            levels                  `fit_level_map` of Φ(d/σ), energies and force components, σ scaled
R_χ                 ellipsoids              `fit_level_map` of F(dᵀ Σ⁻¹ d), F of χ²₃, Σ scaled
q                   conformal               `conformal_quantile` of |d|/σ and of √(dᵀ Σ⁻¹ d), σ and Σ scaled
=================== ======================= ===========================================================

The components of a force have no preferred sign, so R_F is fitted to d and −d. Both parts of a force covariance get the same
factor, so that the mutual information (BALD) of the forces does not change; that of the energies is a difference of logs
of total and aleatoric variances and changes by ½ log(σ² after / σ² before) − ½ log c_a.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from race_calc.uncertainty.conformal import ConformalQuantile, conformal_quantile
from race_calc.uncertainty.level_map import LevelMap, central_interval, ellipsoid_radius, fit_level_map
from race_calc.uncertainty.metrics import LEVELS, chi_square_pit, gaussian_pit, mahalanobis
from race_calc.uncertainty.prediction import Prediction, available
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.scaling import covariance_scale, part_scales, size_scale
from race_calc.uncertainty.thresholds import FEWEST

FEW_FOR_FORCES = 5  # independent members without an aleatoric part, for which the mean of dᵀ Σ⁻¹ d does not exist


@dataclass(frozen=True)
class EnergyCalibration:
    """Factors of the parts of the variance, level map and conformal quantiles of |d|/σ, all of total energies."""

    epistemic: float
    aleatoric: float
    levels: LevelMap
    conformal: tuple[ConformalQuantile, ...]

    def interval(self, level: float) -> tuple[float, float]:
        """z_low, z_high: a share `level` of references is found from E + z_low σ to E + z_high σ, σ being the calibrated one."""
        return central_interval(level, self.levels)


@dataclass(frozen=True)
class ForceCalibration:
    """Factor of the covariance, level maps of components and of χ²₃, and conformal quantiles of √(dᵀ Σ⁻¹ d).

    `ellipsoids` is None and `conformal` empty where the covariances are the spread of few members (FEW_FOR_FORCES) and
    nothing else, or not positive definite: then only the components are calibrated.
    """

    scale: float
    levels: LevelMap
    ellipsoids: LevelMap | None
    conformal: tuple[ConformalQuantile, ...]

    def interval(self, level: float) -> tuple[float, float]:
        """z_low, z_high: a share `level` of components is found from F + z_low σ to F + z_high σ, σ being the calibrated one."""
        return central_interval(level, self.levels)

    def radius(self, level: float) -> float:
        """r: a share `level` of force vectors has dᵀ Σ⁻¹ d ≤ r², Σ being calibrated. Raises ValueError without a map of ellipsoids."""
        if self.ellipsoids is None:
            raise ValueError("the covariances are those of too few members, or not positive definite: use interval()")
        return ellipsoid_radius(level, self.ellipsoids)


@dataclass(frozen=True)
class Calibration:
    """What `race-calc calibrate` stores with a model.

    ========== ==========================================================================
    field      meaning
    ========== ==========================================================================
    data_hash  SHA-256 of the calibration data (`race_calc.data.hashes.data_hash`), "" where it is not known
    structures hashes of its structures (`race_calc.data.hashes.geometry_hashes`) with blanks between, "" where not known
    frames     structures in it
    energy     EnergyCalibration, or None where the posterior gives no variance
    forces     ForceCalibration, or None likewise
    thresholds criterion of the monitor → value that "auto" stands for, of calibrated scores; {} for fewer structures than they take
    ========== ==========================================================================
    """

    data_hash: str
    frames: int
    energy: EnergyCalibration | None
    forces: ForceCalibration | None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    structures: str = ""

    def __post_init__(self) -> None:
        if self.frames < FEWEST:  # made by an earlier version
            object.__setattr__(self, "thresholds", {})

    def apply(self, prediction: Prediction) -> Prediction:
        """The prediction with calibrated (co)variances and BALD of energies; means, members and the stress stay.

        Raises ValueError for a prediction that is calibrated already.
        """
        if prediction.calibrated:
            raise ValueError("the prediction is calibrated already: apply a calibration to what the posterior predicts")
        factors: dict[str, float] = {}
        if self.energy is not None:
            c_e, c_a = self.energy.epistemic, self.energy.aleatoric
            factors |= {"energy_epistemic": c_e, "energy_unsplit": c_e, "energy_aleatoric": c_a}
        if self.forces is not None:
            factors |= {f"forces_covariance_{part}": self.forces.scale for part in ("epistemic", "unsplit", "aleatoric")}
        given = {name: getattr(prediction, name) for name in factors if getattr(prediction, name) is not None}
        changes: dict[str, Any] = {name: factors[name] * values for name, values in given.items()}
        scaled = replace(prediction, calibrated=True, **changes)
        after, before, bald = scaled.energy_variance, prediction.energy_variance, prediction.bald_energy
        if self.energy is None or "bald_energy" not in available(prediction) or after is None or before is None or bald is None:
            return scaled
        with np.errstate(invalid="ignore", divide="ignore"):
            change = 0.5 * np.log(after / before / self.energy.aleatoric)
        return replace(scaled, bald_energy=np.maximum(bald + change, 0.0))  # rounding; NaN stays

    def scaled(self, raw: Residuals) -> Residuals:
        """Residuals with the variances and covariances that `apply` gives."""
        scaled: dict[str, Any] = {}
        if raw.energy_variance is not None and self.energy is not None:
            aleatoric = 0.0 if raw.energy_aleatoric is None else raw.energy_aleatoric
            scaled["energy_variance"] = self.energy.epistemic * (raw.energy_variance - aleatoric) + self.energy.aleatoric * aleatoric
            scaled["energy_aleatoric"] = None if raw.energy_aleatoric is None else self.energy.aleatoric * aleatoric
        if raw.forces_covariance is not None and self.forces is not None:
            scaled["forces_covariance"] = self.forces.scale * raw.forces_covariance
        return replace(raw, **scaled)


def fit_calibration(raw: Residuals) -> Calibration:
    """Fit all but the thresholds to uncalibrated residuals of structures that the model was not trained on.

    Raises ValueError when the posterior gives no uncertainty, for differences or (co)variances that are not finite, and for
    variances that are not positive.
    """
    for name in ("energy", "energy_variance", "forces", "forces_covariance"):
        values = getattr(raw, name)
        broken = np.flatnonzero([] if values is None else ~np.isfinite(values).reshape(len(values), -1).all(axis=1))
        if len(broken):
            structures = np.unique(raw.frame[broken]) if name.startswith("forces") else broken
            raise ValueError(
                f"the {name.replace('_', ' ')} of {len(structures)} structures, the first number {structures[0]}, "
                "is not finite: the model breaks down there, leave them out"
            )
    if raw.energy_variance is None and raw.forces_covariance is None:
        raise ValueError("this model gives no uncertainty (one member and no variance head): there is nothing to calibrate")
    return Calibration("", len(raw), _energy(raw), _forces(raw))


def _energy(raw: Residuals) -> EnergyCalibration | None:
    total = raw.energy_std
    if raw.energy_variance is None or total is None:
        return None
    aleatoric = 0.0 * raw.energy_variance if raw.energy_aleatoric is None else raw.energy_aleatoric
    epistemic = np.maximum(raw.energy_variance - aleatoric, 0.0)  # rounding
    if raw.energy_members is not None:
        scales = 2 * (size_scale(raw.energy, total),)
    else:
        scales = part_scales(raw.energy, epistemic, aleatoric)
    std = np.sqrt(scales[0] * epistemic + scales[1] * aleatoric)
    conformal = tuple(conformal_quantile(np.abs(raw.energy) / std, level) for level in LEVELS)
    return EnergyCalibration(*scales, fit_level_map(gaussian_pit(raw.energy, std)), conformal)


def _forces(raw: Residuals) -> ForceCalibration | None:
    total = raw.forces_std
    if raw.forces_covariance is None or total is None:
        return None
    squared = mahalanobis(raw.forces, raw.forces_covariance)
    few = raw.forces_members is not None and raw.forces_members <= FEW_FOR_FORCES
    definite = not few and not (np.isinf(squared) & np.isfinite(raw.forces).all(axis=-1)).any()
    by_size = raw.forces_members is not None or not definite
    scale = size_scale(raw.forces, total) if by_size else covariance_scale(raw.forces, raw.forces_covariance)
    std = np.sqrt(scale) * total
    levels = fit_level_map(gaussian_pit(np.concatenate([raw.forces, -raw.forces]), np.concatenate([std, std])))
    if not definite:
        return ForceCalibration(scale, levels, None, ())
    conformal = tuple(conformal_quantile(np.sqrt(squared / scale), level, raw.frame) for level in LEVELS)
    return ForceCalibration(scale, levels, fit_level_map(chi_square_pit(squared / scale)), conformal)
