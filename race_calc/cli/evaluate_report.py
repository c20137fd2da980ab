"""Numbers of `race-calc evaluate` as tables (meV, meV/Å) and as JSON."""

import json
import math
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from race_calc import __version__
from race_calc.calibrate.metrics import LEVELS
from race_calc.checkpoint import write_atomically
from race_calc.data.dataset import Dataset, data_hash
from race_calc.evaluate import Evaluation, Quality
from race_calc.ood.detection import auroc

NOTE = (
    "σ: mean predicted standard deviation, total. Inside: percent of the differences in the central 68, 90 and 95 % "
    "intervals. NLL: with ½ log 2π per dimension, in eV and eV/Å."
)


def print_tables(console: Console, found: dict[str, Evaluation], select: str | None) -> None:
    """Errors, uncertainties and, for several sets, AUROC; one row a data set, 100 columns wide at most."""
    stress = any(e.stress is not None for e in found.values())
    if select is not None:
        console.print(Text(f"Only frames with {select}."))
    errors = _table(
        "Errors in meV, meV/atom, meV/Å" + (", meV/Å³" if stress else ""),
        ["data", "frames", "energy\nMAE", "energy\nRMSE", "per atom\nMAE", "per atom\nRMSE", "forces\nMAE", "forces\nRMSE"]
        + (["stress\nMAE", "stress\nRMSE"] if stress else []),
    )
    for name, e in found.items():
        qualities = [e.energy, e.energy_per_atom, e.forces] + ([e.stress] if stress else [])
        _row(errors, name, str(e.structures), *[_milli(getattr(q, key, None)) for q in qualities for key in ("mae", "rmse")])
    console.print(errors)
    sigma = _table(
        "Uncertainties",
        ["data", "energy\nσ", "NLL per\nstructure", "inside\n68/90/95 %", "forces\nσ", "NLL per\natom", "inside\n68/90/95 %"]
        + (["stress\nσ"] if stress else []),
    )
    for name, e in found.items():
        cells = [cell for q in (e.energy, e.forces) for cell in (_milli(q.sigma), _plain(q.nll), _percent(q.coverage))]
        _row(sigma, name, *cells, *([_milli(getattr(e.stress, "sigma", None))] if stress else []))
    console.print(sigma)
    console.print(Text(NOTE, style="dim"))
    detection = detections(found)
    if detection:
        table = _table(f"AUROC of {next(iter(found))} against", ["score", *detection], wrap=True)
        for criterion in next(iter(detection.values())):
            _row(table, criterion, *[f"{values[criterion]:.4f}" for values in detection.values()])
        console.print(table)


def detections(found: dict[str, Evaluation]) -> dict[str, dict[str, float]]:
    """Name of each data set after the first → criterion → AUROC of the first against it."""
    first, *others = found.items()
    return {name: {c: auroc(first[1].scores[c], e.scores[c]) for c in first[1].scores} for name, e in others}


def write_json(
    path: Path, found: dict[str, Evaluation], sets: dict[str, Dataset], model: str, select: str | None, dtype: str
) -> None:
    """All numbers; the unit is in each key, what is unknown or not finite is null."""
    sections = [{"file": name, "sha256": data_hash(sets[name]), **numbers(e)} for name, e in found.items()]
    content = {"race_calc": __version__, "model": model, "dtype": dtype, "select": select, "data": sections}
    if len(found) > 1:
        content["auroc"] = {"in_distribution": next(iter(found)), "out_of_distribution": detections(found)}
    write_atomically(path, (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def numbers(e: Evaluation) -> dict[str, int | float | None]:
    """One data set as JSON keys named with units. Coverage is a fraction, 0 to 1."""
    found = {"structures": e.structures, "atoms": e.atoms, "structures_with_stress": e.stresses}
    kinds = {
        ("energy", "meV", "per_structure"): e.energy,
        ("energy_per_atom", "meV", ""): e.energy_per_atom,
        ("force", "meV_per_A", "per_atom"): e.forces,
        ("stress", "meV_per_A3", ""): e.stress,
    }
    for (name, unit, per), quality in kinds.items():
        found |= _quality_numbers(name, unit, per, quality)
    return {key: value if value is not None and math.isfinite(value) else None for key, value in found.items()}


def _quality_numbers(name: str, unit: str, per: str, q: Quality | None) -> dict[str, float | None]:
    milli = lambda value: None if value is None else 1e3 * value  # noqa: E731
    found = {f"{name}_{key}_{unit}": milli(getattr(q, key, None)) for key in ("mae", "rmse")}
    if name != "energy_per_atom":
        found[f"{name}_mean_sigma_{unit}"] = milli(getattr(q, "sigma", None))
    if per:
        found[f"{name}_nll_nat_{per}"] = q.nll
        found[f"{name}_calibration_error"] = q.calibration_error
        for level in LEVELS:
            found[f"{name}_coverage_{100 * level:.0f}_fraction"] = None if q.coverage is None else q.coverage[level]
    return found


def _table(title: str, headers: list[str], wrap: bool = False) -> Table:
    """A table; long names fold in the first column or, with `wrap`, in the headers of the others."""
    table = Table(
        title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for i, header in enumerate(headers):
        table.add_column(Text(header), justify="right" if i else "left", overflow="fold", no_wrap=(i == 0) == wrap)
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*[Text(cell) for cell in cells])  # Text: brackets in names are no markup


def _milli(value: float | None) -> str:
    return "–" if value is None else _plain(1e3 * value)


def _plain(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"


def _percent(coverage: dict[float, float] | None) -> str:
    return "–" if coverage is None else "/".join(f"{100 * coverage[level]:.0f}" for level in LEVELS)
