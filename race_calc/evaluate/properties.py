"""Molecular properties against labels: errors, likelihood, coverage, and what recalibrates them. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from race_calc.data.dataset import Dataset
from race_calc.data.hashes import data_hash, geometry_hashes
from race_calc.data.properties import of_property
from race_calc.uncertainty.calibration import Calibration, fit_calibration
from race_calc.uncertainty.metrics import LEVELS, coverage, gaussian_nll, mae, rmse
from race_calc.uncertainty.prediction import Property
from race_calc.uncertainty.residuals import Residuals

FEWEST = 10  # labelled structures


@dataclass(frozen=True)
class PropertyErrors:
    """Of the structures that have the label; nll in nat, coverage by level; None where there is no variance."""

    count: int
    mae: float
    rmse: float
    nll: float | None
    coverage: dict[float, float] | None


def property_errors(found: Property, labels: np.ndarray) -> PropertyErrors | None:
    """`labels` (B,), NaN where unknown; None where there is none."""
    known = np.isfinite(labels)
    if not known.any():
        return None
    difference = labels[known] - found.mean[known]
    nll, covered = None, None
    if found.std is not None:
        std = found.std[known]
        nll, covered = gaussian_nll(difference, std**2), {level: coverage(difference, std, level) for level in LEVELS}
    return PropertyErrors(int(known.sum()), mae(difference), rmse(difference), nll, covered)


def calibrated_property(found: Property, dataset: Dataset, name: str, members: int) -> Calibration:
    """From uncalibrated predictions of held-back molecules.

    Raises ValueError for fewer than FEWEST labels, copies of a structure, and what `fit_calibration` raises.
    """
    labels = of_property(dataset, name).energy
    known = np.flatnonzero(np.isfinite(labels))
    if len(known) < FEWEST:
        raise ValueError(f"{len(known)} structures have {name}, which tell no scale: give at least {FEWEST}, better 100 or more")
    if found.std is None:
        raise ValueError(f"this model gives no uncertainty of {name}: there is nothing to calibrate")
    some = of_property(dataset.subset(known), name)
    hashes = geometry_hashes(some)
    if len(set(hashes)) < len(hashes):
        raise ValueError(f"{len(hashes) - len(set(hashes))} of {len(hashes)} structures occur more than once: leave the copies out")
    aleatoric = None if found.aleatoric is None else found.aleatoric[known]
    error, variance = labels[known] - found.mean[known], found.std[known] ** 2
    fitted = fit_calibration(residuals_of_value(error, variance, aleatoric, members, some.structures))
    return replace(fitted, data_hash=data_hash(some), structures=" ".join(hashes))


def residuals_of_value(
    error: np.ndarray, variance: np.ndarray, aleatoric: np.ndarray | None, members: int | None, structures: Sequence[Atoms]
) -> Residuals:
    """Of one number of each structure, in the place of its energy: reference − prediction, variance and its aleatoric part (B,); `members`:
    how many independent ones make the spread."""
    numbers = np.concatenate([atoms.numbers for atoms in structures])
    return Residuals(
        energy=error,
        energy_variance=variance,
        energy_aleatoric=aleatoric,
        spread_members=members,
        forces=np.zeros((len(numbers), 3)),
        frame=np.repeat(np.arange(len(structures)), [len(atoms) for atoms in structures]),
        numbers=numbers,
        force_size=np.zeros(len(numbers)),
    )
