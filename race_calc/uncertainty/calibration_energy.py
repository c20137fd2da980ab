"""What recalibrates the uncertainty of total energies: a factor for each part, or the size of a spread. NumPy and SciPy only."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from race_calc.uncertainty.conformal import ConformalQuantile, conformal_quantile
from race_calc.uncertainty.energy_size import EnergySize, EnergySpread, fit_energy_size
from race_calc.uncertainty.held_back import Told, held_back, prefers, told
from race_calc.uncertainty.level_map import FLAT, LevelMap, central_interval, fit_level_map
from race_calc.uncertainty.metrics import LEVELS, gaussian_pit
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.scaling import part_scales, size_scale
from race_calc.uncertainty.shape_size import mean_variance
from race_calc.uncertainty.vectors import forces_of

PARTS, SIZE = "a factor for each part", "size of the spread"


@dataclass(frozen=True)
class EnergyCalibration:
    """What the variance is recalibrated with, level map and conformal quantiles of |d|/σ, all of total energies.

    `form`: the size of the spread, or None for the factors `epistemic` and `aleatoric` of the parts. `held_back`: mean NLL in nat of
    structures held back, why.
    """

    epistemic: float
    aleatoric: float
    levels: LevelMap
    conformal: tuple[ConformalQuantile, ...]
    form: EnergySize | None = None
    held_back: tuple[Told, ...] = ()

    @property
    def way(self) -> str:
        """What recalibrates, by its name in `held_back`."""
        return PARTS if self.form is None else SIZE

    def interval(self, level: float) -> tuple[float, float]:
        """z_low, z_high: a share `level` of references is found from E + z_low σ to E + z_high σ, σ being the calibrated one."""
        return central_interval(level, self.levels)

    def parts(self, spread: EnergySpread | None, epistemic: np.ndarray, aleatoric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Recalibrated epistemic and aleatoric part of the variance, (B,) eV²; with a `form`, that is their sum and they keep their shares.

        `spread`: None where the members' is not known; then the parts get factors of their own.
        """
        if self.form is None or spread is None:
            return self.epistemic * epistemic, self.aleatoric * aleatoric
        total, before = self.form.variance(spread), epistemic + aleatoric
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(before == 0, 0.0, aleatoric / before)
            return total * (1 - share), total * share

    def variance(self, raw: Residuals) -> tuple[np.ndarray, np.ndarray | None]:
        """The recalibrated variance and its aleatoric part, (B,) eV²."""
        spread = energy_spread_of(raw)
        assert spread is not None
        none = raw.energy_aleatoric is None
        epistemic, aleatoric = self.parts(spread, spread.energies, _aleatoric(raw))
        return epistemic + aleatoric, None if none else aleatoric


def _aleatoric(raw: Residuals) -> np.ndarray:
    return np.zeros(len(raw)) if raw.energy_aleatoric is None else raw.energy_aleatoric


def energy_spread_of(raw: Residuals) -> EnergySpread | None:
    """None without a variance."""
    if raw.energy_variance is None:
        return None
    vectors = None if raw.forces_optional else forces_of(raw)
    spread = None if vectors is None else vectors.spread
    forces = None if spread is None else (np.maximum(mean_variance(spread.epistemic), 0.0), spread.nearby)
    return EnergySpread(np.maximum(raw.energy_variance - _aleatoric(raw), 0.0), forces, raw.frame)  # rounding


def fit_energy(raw: Residuals) -> EnergyCalibration | None:
    """The better of a factor for each part and the size, by the likelihood of structures that each was not fitted to.

    None without variances. Raises ValueError where the errors give no scale.
    """
    if raw.energy_variance is None:
        return None
    found = held_back(raw, {PARTS: _of_parts, SIZE: _of_size})
    plain = replace(_parts(raw), form=_size(raw) if prefers(found, PARTS, SIZE) else None, held_back=told(found))
    std = np.sqrt(plain.variance(raw)[0])
    with np.errstate(divide="ignore", invalid="ignore"):  # members that agree exactly
        conformal = tuple(conformal_quantile(np.abs(raw.energy) / std, level) for level in LEVELS)
    return replace(plain, levels=fit_level_map(gaussian_pit(raw.energy, std)), conformal=conformal)


def _parts(raw: Residuals) -> EnergyCalibration:
    """A factor for each part, nothing else."""
    spread, total = energy_spread_of(raw), raw.energy_std
    assert spread is not None and total is not None
    if raw.energy_members is not None:
        return EnergyCalibration(*2 * (size_scale(raw.energy, total),), FLAT, ())
    return EnergyCalibration(*part_scales(raw.energy, spread.energies, _aleatoric(raw)), FLAT, ())


def _size(raw: Residuals) -> EnergySize:
    spread = energy_spread_of(raw)
    assert spread is not None
    return fit_energy_size(raw.energy, spread, raw.spread_members, by_size=raw.energy_members is not None)


def _of_parts(known: Residuals) -> Callable[[Residuals], np.ndarray]:
    return partial(_nll, _parts(known))


def _of_size(known: Residuals) -> Callable[[Residuals], np.ndarray]:
    return partial(_nll, EnergyCalibration(1.0, 1.0, FLAT, (), _size(known)))


def _nll(calibration: EnergyCalibration, new: Residuals) -> np.ndarray:
    """Of every structure (B,)."""
    variance = calibration.variance(new)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(0.5 * (new.energy**2 / variance + np.log(2 * np.pi * variance)))
