"""A calibration as plain JSON types and back, and its file."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from race_calc.data.files import read_json, write_atomically
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.calibration_energy import EnergyCalibration
from race_calc.uncertainty.calibration_vectors import VectorCalibration
from race_calc.uncertainty.conformal import ConformalQuantile
from race_calc.uncertainty.energy_size import EXPONENTS, EnergySize, Source
from race_calc.uncertainty.held_back import Told
from race_calc.uncertainty.level_map import LevelMap
from race_calc.uncertainty.shape_size import ShapeSize

FORMAT, VERSION = "race_calc calibration", 5  # 2: shape × size; 3: sizes of elements, stresses; 4: gaps and scalars; 5: weights


def write_calibration(path: str | Path, calibration: Calibration, model_hash: str | None = None, state: int = 0) -> None:
    """Write, or replace, the file in one step. `model_hash`: of the model that it belongs to, where that has one; `state`: which of its
    electronic states."""
    of_state = {"state": state} if state else {}
    content = {"format": FORMAT, "version": VERSION, "weights_sha256": model_hash, **of_state, **to_dict(calibration)}
    write_atomically(Path(path), (json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_calibration(path: str | Path, model_hash: str | None = None, state: int = 0) -> Calibration:
    """What `write_calibration` wrote. `model_hash`: of the potential that it is for, None where that tells none (a committee).

    Raises FileNotFoundError where there is no file, ValueError for one that is damaged, of a newer version, of another model or state.
    """
    path = Path(path)
    content = read_json(path, FORMAT, VERSION)
    if model_hash is None and content.get("weights_sha256") is not None:
        raise ValueError(
            f"{path} belongs to the model with the weights {str(content['weights_sha256'])[:12]}, not to this potential: calibrate this "
            "one with race-calc calibrate --calculator"
        )
    if content.get("weights_sha256") != model_hash:
        raise ValueError(f"{path} belongs to other weights: run race-calc calibrate again, or copy the file again")
    if content.get("state", 0) != state:
        raise ValueError(f"{path} is that of another electronic state or property: calibrate this one again with race-calc calibrate")
    try:
        return from_dict(content)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from None


def to_dict(calibration: Calibration) -> dict[str, Any]:
    """Plain JSON types, but for tuples, and None for an infinite quantile; `from_dict` makes the same calibration of them."""
    return asdict(calibration, dict_factory=lambda items: {name: None if value == math.inf else value for name, value in items})


def from_dict(state: Mapping[str, Any]) -> Calibration:
    """Inverse of `to_dict`. Raises ValueError for missing keys and values that cannot be."""
    try:
        energy, forces = state["energy"], state["forces"]
        thresholds = {str(name): float(value) for name, value in dict(state["thresholds"]).items()}
        parts = None if energy is None else _energy(energy), None if forces is None else _vectors(forces)
        stress = None if state.get("stress") is None else _vectors(state["stress"], 6)  # from version 3
        beside = {str(name): _energy(part) for name, part in dict(state.get("beside", {})).items()}  # from version 4
        structures = str(state.get("structures", ""))
        stored = Calibration(str(state["data_hash"]), int(state["frames"]), *parts, thresholds, structures, stress, beside)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the calibration is incomplete ({error}): calibrate the model again") from error
    if (stored.energy is None and stored.forces is None) or stored.frames < 1:
        raise ValueError("the calibration is empty: calibrate the model again")
    if not all(0.0 <= value < math.inf for value in thresholds.values()):
        raise ValueError("a threshold of the calibration is not a finite number ≥ 0: calibrate the model again")
    return stored


def _energy(state: Mapping[str, Any]) -> EnergyCalibration:
    form = state.get("form")  # versions before 2 have none
    form = None if form is None else EnergySize(tuple(map(_source, form["sources"])))
    if form is not None and "energies" not in [source.name for source in form.sources]:
        raise ValueError("the calibration lacks the size of the energies' spread: calibrate the model again")
    return EnergyCalibration(_scale(state["epistemic"]), _scale(state["aleatoric"]), _levels(state), _quantiles(state), form, _told(state))


def _vectors(state: Mapping[str, Any], dimension: int = 3) -> VectorCalibration:
    ellipsoids = None if state["ellipsoids"] is None else LevelMap.from_dict(state["ellipsoids"])
    form = state.get("form")
    if form is not None:
        shape, own, degree = (_exponent(form[name]) for name in ("shape", "own", "degree"))
        if own > degree:
            raise ValueError(f"an exponent of the calibration is {own}, above {degree}: calibrate the model again")
        form = ShapeSize(
            _scale(form["scale"]), shape, own, _scale(form["floor"]), degree, _elements(form.get("elements", ()))
        )  # from version 3
    return VectorCalibration(_scale(state["scale"]), _levels(state), ellipsoids, _quantiles(state), form, _told(state), dimension)


def _elements(stored: Any) -> tuple[tuple[int, float], ...]:
    pairs = [list(pair) for pair in stored]
    if any(len(pair) != 2 or type(pair[0]) is not int or not 1 <= pair[0] <= 118 for pair in pairs) or len(dict(pairs)) < len(pairs):
        raise ValueError(f"the elements of the calibration are {str(stored)[:80]}: calibrate the model again")
    return tuple((z, _scale(factor)) for z, factor in pairs)


def _source(state: Mapping[str, Any]) -> Source:
    if state["name"] not in EXPONENTS:
        raise ValueError(f"the calibration takes the size of energies from {state['name']!r}: calibrate the model again")
    weight = float(state.get("weight", 0.5))  # from version 5
    if not 0.0 < weight < 1.0:
        raise ValueError(f"a weight of the calibration is {weight}, not between 0 and 1: calibrate the model again")
    return Source(state["name"], _scale(state["scale"]), _exponent(state["exponent"]), _scale(state["floor"]), weight)


def _told(state: Mapping[str, Any]) -> tuple[Told, ...]:
    return tuple(Told(str(one["name"]), math.inf if one["nll"] is None else float(one["nll"])) for one in state.get("held_back", ()))


def _scale(stored: Any) -> float:
    scale = float(stored)
    if not 0.0 < scale < math.inf:
        raise ValueError(f"the scale of the calibration is {scale}: a factor is a finite number > 0, calibrate the model again")
    return scale


def _exponent(stored: Any) -> float:
    if not 0.0 <= float(stored) <= 3.0:
        raise ValueError(f"an exponent of the calibration is {stored}: calibrate the model again")
    return float(stored)


def _levels(state: Mapping[str, Any]) -> LevelMap:
    if state["levels"] is None:
        raise ValueError("the calibration lacks a level map: calibrate the model again")
    return LevelMap.from_dict(state["levels"])


def _quantiles(state: Mapping[str, Any]) -> tuple[ConformalQuantile, ...]:
    return tuple(ConformalQuantile.from_dict(quantile) for quantile in state["conformal"])
