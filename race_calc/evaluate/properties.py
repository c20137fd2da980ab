"""Molecular properties against labels: errors, likelihood, coverage, and what recalibrates them. Imports no torch."""

from dataclasses import dataclass, replace

import numpy as np

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
    no_forces, one_each = np.zeros((len(known), 3)), np.arange(len(known))
    fitted = fit_calibration(
        Residuals(
            energy=labels[known] - found.mean[known],
            energy_variance=found.std[known] ** 2,
            energy_aleatoric=None if found.aleatoric is None else found.aleatoric[known],
            energy_members=members if found.aleatoric is None else None,
            forces=no_forces,
            frame=one_each,
            numbers=np.ones(len(known), dtype=np.int64),
            force_size=np.zeros(len(known)),
        )
    )
    return replace(fitted, data_hash=data_hash(some), structures=" ".join(hashes))
