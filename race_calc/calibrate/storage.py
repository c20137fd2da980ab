"""A calibration as plain JSON types and back."""

import math
from collections.abc import Mapping
from dataclasses import fields

from race_calc.calibrate.calibration import Calibration, EnergyCalibration, ForceCalibration
from race_calc.calibrate.conformal import ConformalQuantile
from race_calc.calibrate.recalibration import LevelMap


def to_dict(calibration: Calibration) -> dict:
    """Plain JSON types; `from_dict` makes the same calibration of them."""
    return {
        "data_hash": calibration.data_hash,
        "frames": calibration.frames,
        "energy": _part(calibration.energy),
        "forces": _part(calibration.forces),
        "thresholds": dict(calibration.thresholds),
    }


def from_dict(state: Mapping) -> Calibration:
    """Inverse of `to_dict`. Raises ValueError for missing keys and values that cannot be."""
    try:
        energy, forces = state["energy"], state["forces"]
        thresholds = {str(name): float(value) for name, value in dict(state["thresholds"]).items()}
        found = Calibration(
            str(state["data_hash"]),
            int(state["frames"]),
            None if energy is None else EnergyCalibration(
                _scale(energy, "epistemic"), _scale(energy, "aleatoric"), _map(energy, "levels"), _quantiles(energy)),
            None if forces is None else ForceCalibration(
                _scale(forces, "scale"), _map(forces, "levels"), _map(forces, "ellipsoids"), _quantiles(forces)),
            thresholds,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the calibration is incomplete ({error}): calibrate the model again") from error
    if found.energy is None and found.forces is None or found.frames < 1:
        raise ValueError("the calibration is empty: calibrate the model again")
    if found.energy is not None and found.energy.levels is None or found.forces is not None and found.forces.levels is None:
        raise ValueError("the calibration lacks a level map: calibrate the model again")
    if not all(0.0 <= value < math.inf for value in thresholds.values()):
        raise ValueError("a threshold of the calibration is not a finite number ≥ 0: calibrate the model again")
    return found


def _part(part: EnergyCalibration | ForceCalibration | None) -> dict | None:
    if part is None:
        return None
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    return {name: [q.to_dict() for q in value] if name == "conformal" else value.to_dict() if isinstance(value, LevelMap) else value
            for name, value in values.items()}


def _scale(state: Mapping, name: str) -> float:
    scale = float(state[name])
    if not 0.0 < scale < math.inf:
        raise ValueError(f"the scale of the calibration is {scale}: a factor is a finite number > 0, calibrate the model again")
    return scale


def _map(state: Mapping, name: str) -> LevelMap | None:
    return None if state[name] is None else LevelMap.from_dict(state[name])


def _quantiles(state: Mapping) -> tuple[ConformalQuantile, ...]:
    return tuple(ConformalQuantile.from_dict(one) for one in state["conformal"])
