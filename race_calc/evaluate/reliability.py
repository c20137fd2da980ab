"""How often references are found where a model says, before and after its calibration. NumPy and SciPy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from race_calc.uncertainty.bootstrap import Interval, calibration_error_interval, mean_interval
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.metrics import LEVELS, chi_square_pit, flat, gaussian_pit, level_error, mahalanobis
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.vectors import forces_of, stresses_of

OF_ATOMS = ("forces", "ellipsoids")  # among the names of `nominal_levels`


@dataclass(frozen=True)
class Reliability:
    """Of one quantity of one data set, with 95 % intervals over resampled structures (NaN for a single structure).

    ================= ==========================================================================
    field             meaning
    ================= ==========================================================================
    calibration_error `level_error`, 0 to 1/3; compare it with `calibration_floor`
    coverage          level → share of references in the central interval, or in the ellipsoid
    ================= ==========================================================================
    """

    calibration_error: Interval
    coverage: dict[float, Interval]


def nominal_levels(raw: Residuals) -> dict[str, np.ndarray]:
    """Nominal levels at which references are found, where there are any: "energy" (B,), "forces" (N, 3), "ellipsoids" (N,), and of the S
    structures with a label of it "stress" (S, 6) and "stress ellipsoids" (S,). Members too few for ellipsoids have none."""
    levels, energy_std = {}, raw.energy_std
    if energy_std is not None:
        levels["energy"] = gaussian_pit(raw.energy, energy_std)
    for name, ellipsoids, vectors in (("forces", "ellipsoids", forces_of(raw)), ("stress", "stress ellipsoids", stresses_of(raw))):
        if vectors is not None:
            levels[name] = gaussian_pit(vectors.difference, vectors.std)
            squared = mahalanobis(vectors.difference, vectors.covariance)
            if not flat(squared):
                levels[ellipsoids] = chi_square_pit(squared, vectors.difference.shape[1])
    return levels


def calibrated_levels(raw: Residuals, calibration: Calibration) -> dict[str, np.ndarray]:
    """The same after scaling and level map, uniform where the calibration holds; without the quantities that it does not have."""
    maps = {} if calibration.energy is None else {"energy": calibration.energy.levels}
    for name, ellipsoids, part in (("forces", "ellipsoids", calibration.forces), ("stress", "stress ellipsoids", calibration.stress)):
        maps |= {} if part is None else {name: part.levels} | ({ellipsoids: part.ellipsoids} if part.ellipsoids else {})
    return {name: maps[name].observed(levels) for name, levels in nominal_levels(calibration.scaled(raw)).items() if name in maps}


def reliability(levels: dict[str, np.ndarray], frame: np.ndarray) -> dict[str, Reliability]:
    """Of each quantity in `levels`; `frame` (N,) structure of each atom, 0 … B − 1."""
    return {name: _of(values, frame, name) for name, values in levels.items()}


def inside(levels: np.ndarray, level: float, name: str) -> np.ndarray:
    """Whether references lie in the ellipsoid of this level ("… ellipsoids") or in the central interval; shape of `levels`."""
    return levels <= level if name.endswith("ellipsoids") else np.abs(levels - 0.5) <= 0.5 * level


def covered(levels: np.ndarray, frame: np.ndarray, name: str, at: Sequence[float] = LEVELS) -> dict[float, Interval]:
    """Level → share of the references inside, for one quantity of `nominal_levels`; `frame`: as in `reliability`."""
    flags = {level: inside(levels, level, name) for level in at}
    structures = frame_of(levels, frame, name)
    if len(np.unique(structures)) > 1:
        return {level: mean_interval(each, structures) for level, each in flags.items()}
    return {level: Interval(float(each.mean()), np.nan, np.nan) for level, each in flags.items()}


def frame_of(levels: np.ndarray, frame: np.ndarray, name: str) -> np.ndarray:
    """The structure of each row of the levels of a quantity; `frame` (N,) that of each atom."""
    return frame if name in OF_ATOMS else np.arange(len(levels))


def _of(levels: np.ndarray, frame: np.ndarray, name: str) -> Reliability:
    structures = frame_of(levels, frame, name)
    several = len(np.unique(structures)) > 1
    error = calibration_error_interval(levels, structures) if several else Interval(level_error(levels), np.nan, np.nan)
    return Reliability(error, covered(levels, frame, name))
