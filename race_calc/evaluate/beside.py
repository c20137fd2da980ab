"""What is predicted beside energies, forces and stress against labels: errors, and what recalibrates it. Imports no torch."""

import warnings
from collections.abc import Mapping

import numpy as np

from race_calc.data.dataset import Dataset
from race_calc.evaluate.predict import Predicted
from race_calc.evaluate.properties import FEWEST, PropertyErrors, property_errors, residuals_of_value
from race_calc.uncertainty.beside import Beside, beside
from race_calc.uncertainty.calibration_energy import EnergyCalibration, fit_energy
from race_calc.uncertainty.prediction import Property
from race_calc.uncertainty.predictor import Predictor


def labels_beside(predictor: Predictor, dataset: Dataset) -> dict[str, np.ndarray]:
    """Name → labels (B,), NaN where unknown; {} for a predictor that says nothing of the kind."""
    told = getattr(predictor, "labels_beside", None)
    return {} if told is None else told(dataset)


def errors_beside(predicted: Predicted, labels: Mapping[str, np.ndarray]) -> dict[str, PropertyErrors | None]:
    """By name."""
    found = joined(predicted)
    return {name: property_errors(_property(found[name]), values) for name, values in labels.items() if name in found}


def calibrated_beside(predicted: Predicted, dataset: Dataset, labels: Mapping[str, np.ndarray]) -> dict[str, EnergyCalibration]:
    """By name, of what has a variance and at least FEWEST labels; `predicted`: not calibrated. Warns of what gives no scale."""
    fitted = {}
    members = predicted.predictions[0].independent_members("energy")
    for name, one in joined(predicted).items():
        known = np.flatnonzero(np.isfinite(labels.get(name, np.full(len(one.value), np.nan))))
        if len(known) < FEWEST or one.variance is None:
            continue
        structures = [dataset.structures[i] for i in known]
        aleatoric = None if one.aleatoric is None else one.aleatoric[known]
        error = labels[name][known] - one.value[known]
        try:
            found = fit_energy(residuals_of_value(error, one.variance[known], aleatoric, members, structures))
        except ValueError as reason:  # the rest is worth having without it
            warnings.warn(f"{name} is not calibrated, the rest is: {reason}", stacklevel=3)
            continue
        if found is not None:
            fitted[name] = found
    return fitted


def joined(predicted: Predicted) -> dict[str, Beside]:
    """Of all structures."""
    parts = [beside(prediction) for prediction in predicted.predictions]

    def all_of(name: str, field: str) -> np.ndarray | None:
        values = [getattr(part[name], field) for part in parts]
        return None if any(value is None for value in values) else np.concatenate(values)

    names = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: Beside(*(all_of(name, field) for field in ("value", "epistemic", "aleatoric"))) for name in names}  # type: ignore[arg-type]


def _property(one: Beside) -> Property:
    return Property(one.value, None if one.variance is None else np.sqrt(one.variance), one.epistemic, one.aleatoric)
