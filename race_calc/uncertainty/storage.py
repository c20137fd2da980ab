"""A calibration as plain JSON types and back, and its file."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from race_calc.data.files import read_json, write_atomically
from race_calc.uncertainty.calibration import Calibration, EnergyCalibration, ForceCalibration
from race_calc.uncertainty.conformal import ConformalQuantile
from race_calc.uncertainty.level_map import LevelMap

FORMAT, VERSION = "race_calc calibration", 1


def write_calibration(path: str | Path, calibration: Calibration, model_hash: str | None = None) -> None:
    """Write, or replace, the file in one step. `model_hash`: of the model that it belongs to, where that has one."""
    content = {"format": FORMAT, "version": VERSION, "weights_sha256": model_hash, **to_dict(calibration)}
    write_atomically(Path(path), (json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_calibration(path: str | Path, model_hash: str | None = None) -> Calibration:
    """What `write_calibration` wrote. `model_hash`: refuse the calibration of another model, where both tell their hash.

    Raises FileNotFoundError where there is no file, ValueError for one that is damaged, of a newer version or of another model.
    """
    path = Path(path)
    content = read_json(path, FORMAT, VERSION)
    stored = content.get("weights_sha256")
    if model_hash is not None and stored != model_hash:
        raise ValueError(f"{path} belongs to other weights: run race-calc calibrate again, or copy the file again")
    try:
        return from_dict(content)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from None


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
            None
            if energy is None
            else EnergyCalibration(_scale(energy, "epistemic"), _scale(energy, "aleatoric"), _map(energy, "levels"), _quantiles(energy)),
            None
            if forces is None
            else ForceCalibration(_scale(forces, "scale"), _map(forces, "levels"), _map(forces, "ellipsoids"), _quantiles(forces)),
            thresholds,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the calibration is incomplete ({error}): calibrate the model again") from error
    if (found.energy is None and found.forces is None) or found.frames < 1:
        raise ValueError("the calibration is empty: calibrate the model again")
    if (found.energy is not None and found.energy.levels is None) or (found.forces is not None and found.forces.levels is None):
        raise ValueError("the calibration lacks a level map: calibrate the model again")
    if not all(0.0 <= value < math.inf for value in thresholds.values()):
        raise ValueError("a threshold of the calibration is not a finite number ≥ 0: calibrate the model again")
    return found


def _part(part: EnergyCalibration | ForceCalibration | None) -> dict | None:
    if part is None:
        return None
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    return {
        name: [q.to_dict() for q in value] if name == "conformal" else value.to_dict() if isinstance(value, LevelMap) else value
        for name, value in values.items()
    }


def _scale(state: Mapping, name: str) -> float:
    scale = float(state[name])
    if not 0.0 < scale < math.inf:
        raise ValueError(f"the scale of the calibration is {scale}: a factor is a finite number > 0, calibrate the model again")
    return scale


def _map(state: Mapping, name: str) -> LevelMap | None:
    return None if state[name] is None else LevelMap.from_dict(state[name])


def _quantiles(state: Mapping) -> tuple[ConformalQuantile, ...]:
    return tuple(ConformalQuantile.from_dict(one) for one in state["conformal"])
