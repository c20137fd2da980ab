"""Predictions of many structures as files: a table (CSV), JSON, or extended XYZ."""

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from race_calc.data.extxyz import as_extxyz
from race_calc.data.files import write_atomically
from race_calc.data.label_names import PREDICTED
from race_calc.md.record import annotate
from race_calc.report.json_text import finite
from race_calc.uncertainty.prediction import Prediction, Property
from race_calc.uncertainty.scores import all_scores

Row = dict[str, Any]


def of_properties(found: dict[str, Property], atoms: Atoms) -> tuple[Row, Atoms]:
    """Of one structure: value, standard deviation and its parts, by name."""
    row: Row = {}
    for name, value in found.items():
        row[name] = float(value.mean[0])
        if value.std is not None:
            row[f"{name}_std"] = float(value.std[0])
        for part in ("epistemic", "aleatoric"):
            if (variance := getattr(value, part)) is not None:
                row[f"{name}_std_{part}"] = math.sqrt(variance[0])
    frame: Atoms = atoms.copy()
    frame.info |= row | {"labels": PREDICTED}
    return row, frame


def of_potential(prediction: Prediction, atoms: Atoms) -> tuple[Row, Atoms]:
    """Of one structure: its energy with uncertainties, what else there is of the structure, and the monitor's scores."""
    row: Row = {"energy": float(prediction.energy[0])}
    for name in ("energy_uncertainty", "energy_uncertainty_epistemic", "energy_uncertainty_aleatoric", "gap", "gap_uncertainty"):
        if (value := prediction.value(name)) is not None:
            row[name] = float(value[0])  # type: ignore[index]
    for name, extra in prediction.extra.items():
        if extra.per_structure:
            row[name] = extra.mean[0].tolist()
    frame = annotate(atoms, prediction)
    frame.info |= {name: value for name, value in row.items() if name != "energy"}
    return row | {name: float(values[0]) for name, (values, _) in all_scores(prediction, [atoms]).items()}, frame


def write_csv(path: Path, rows: Sequence[Row], frames: Sequence[Atoms]) -> None:
    """A line a structure; a list takes a column for each of its numbers."""
    flat = [dict(pair for name, value in row.items() for pair in _columns(name, value)) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row if name != "structure"))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["structure", "formula", *names])
    writer.writeheader()
    for row, atoms in zip(flat, frames):
        writer.writerow({"formula": str(atoms.symbols), **row})
    write_atomically(path, text.getvalue().encode())


def _columns(name: str, value: Any) -> list[tuple[str, Any]]:
    return [(f"{name}_{k}", one) for k, one in enumerate(value)] if isinstance(value, list) else [(name, value)]


def write_json(path: Path, rows: Sequence[Row], frames: Sequence[Atoms]) -> None:
    content = [{"formula": str(atoms.symbols), **finite(row)} for row, atoms in zip(rows, frames)]
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def write_xyz(path: Path, rows: Sequence[Row], frames: Sequence[Atoms]) -> None:
    write_atomically(path, as_extxyz(frames))


WRITERS: dict[str, Callable[[Path, Sequence[Row], Sequence[Atoms]], None]] = {".csv": write_csv, ".json": write_json, ".xyz": write_xyz}
