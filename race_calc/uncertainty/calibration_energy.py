"""What recalibrates the uncertainty of total energies. NumPy and SciPy only."""

from dataclasses import dataclass

import numpy as np

from race_calc.uncertainty.conformal import ConformalQuantile, conformal_quantile
from race_calc.uncertainty.level_map import LevelMap, central_interval, fit_level_map
from race_calc.uncertainty.metrics import LEVELS, gaussian_pit
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.scaling import part_scales, size_scale


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


def fit_energy(raw: Residuals) -> EnergyCalibration | None:
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
