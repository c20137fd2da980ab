"""What recalibrates the uncertainty of total energies: a factor for each part, or the size of a spread. NumPy and SciPy only."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from race_calc.uncertainty.conformal import ConformalQuantile, conformal_quantile
from race_calc.uncertainty.energy_size import EnergySize, EnergySpread, fit_energy_size
from race_calc.uncertainty.held_back import Fit, Told, chosen, held_back, told
from race_calc.uncertainty.level_map import FLAT, LevelMap, central_interval, fit_level_map
from race_calc.uncertainty.metrics import LEVELS, gaussian_pit
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.scaling import part_scales, size_scale
from race_calc.uncertainty.shape_size import third

PARTS, SIZE_OF = "a factor for each part", {"forces": "size of the force spread", "energies": "size of the energy spread"}
Factors = tuple[float | np.ndarray, float | np.ndarray]


@dataclass(frozen=True)
class EnergyCalibration:
    """What the variance is recalibrated with, level map and conformal quantiles of |d|/σ, all of total energies.

    `form`: the size of a spread, or None for the factors `epistemic` and `aleatoric` of the parts, which also serve where a prediction
    lacks that spread. `held_back`: mean NLL of structures held back, why.
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
        return PARTS if self.form is None else SIZE_OF[self.form.source]

    def interval(self, level: float) -> tuple[float, float]:
        """z_low, z_high: a share `level` of references is found from E + z_low σ to E + z_high σ, σ being the calibrated one."""
        return central_interval(level, self.levels)

    def factors(self, variance: np.ndarray, spread: EnergySpread | None) -> Factors:
        """Of the epistemic and the aleatoric part of variances (B,) in eV²: the same, σ² after over before, where there is a `form`."""
        if self.form is None or spread is None or getattr(spread, self.form.source) is None:
            return self.epistemic, self.aleatoric
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.form.variance(spread) / variance
        return ratio, ratio

    def variance(self, raw: Residuals) -> tuple[np.ndarray, np.ndarray | None]:
        """The recalibrated variance and its aleatoric part, (B,) eV²."""
        assert raw.energy_variance is not None
        c_e, c_a = self.factors(raw.energy_variance, energy_spread_of(raw))
        if raw.energy_aleatoric is None:
            return c_e * raw.energy_variance, None
        aleatoric = c_a * raw.energy_aleatoric
        return c_e * (raw.energy_variance - raw.energy_aleatoric) + aleatoric, aleatoric


def energy_spread_of(raw: Residuals) -> EnergySpread | None:
    """None without a variance."""
    if raw.energy_variance is None:
        return None
    aleatoric = 0.0 if raw.energy_aleatoric is None else raw.energy_aleatoric
    forces = raw.forces_covariance
    if forces is not None:
        size = third(forces if raw.forces_aleatoric is None else forces - raw.forces_aleatoric)
        forces = np.bincount(raw.frame, np.maximum(size, 0.0))
    return EnergySpread(np.maximum(raw.energy_variance - aleatoric, 0.0), forces, np.bincount(raw.frame))  # rounding


def fit_energy(raw: Residuals) -> EnergyCalibration | None:
    """The best of a factor for each part and the sizes, by the likelihood of structures that each was not fitted to.

    None without variances. Raises ValueError where the errors give no scale.
    """
    spread = energy_spread_of(raw)
    if spread is None:
        return None
    ways: dict[str, Fit] = {PARTS: _of_parts, **{SIZE_OF[source]: partial(_of_size, source) for source in spread.sources()}}
    found = held_back(raw, ways)
    best = chosen(found, PARTS)
    form = next((_size(source, raw) for source, name in SIZE_OF.items() if name == best), None)
    plain = replace(_parts(raw), form=form, held_back=told(found))
    std = np.sqrt(plain.variance(raw)[0])
    conformal = tuple(conformal_quantile(np.abs(raw.energy) / std, level) for level in LEVELS)
    return replace(plain, levels=fit_level_map(gaussian_pit(raw.energy, std)), conformal=conformal)


def _parts(raw: Residuals) -> EnergyCalibration:
    """A factor for each part, nothing else."""
    spread, total = energy_spread_of(raw), raw.energy_std
    assert spread is not None and total is not None
    if raw.energy_members is not None:
        return EnergyCalibration(*2 * (size_scale(raw.energy, total),), FLAT, ())
    epistemic = np.asarray(spread.energies)
    aleatoric = np.zeros(len(raw)) if raw.energy_aleatoric is None else raw.energy_aleatoric
    return EnergyCalibration(*part_scales(raw.energy, epistemic, aleatoric), FLAT, ())


def _of_parts(known: Residuals) -> Callable[[Residuals], np.ndarray]:
    return partial(_nll, _parts(known))


def _of_size(source: str, known: Residuals) -> Callable[[Residuals], np.ndarray]:
    return partial(_nll, EnergyCalibration(1.0, 1.0, FLAT, (), _size(source, known)))


def _size(source: str, known: Residuals) -> EnergySize:
    spread = energy_spread_of(known)
    assert spread is not None
    return fit_energy_size(known.energy, spread, source, by_size=known.energy_members is not None)


def _nll(calibration: EnergyCalibration, new: Residuals) -> np.ndarray:
    """Of every structure (B,)."""
    variance = calibration.variance(new)[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(0.5 * (new.energy**2 / variance + np.log(2 * np.pi * variance)))
