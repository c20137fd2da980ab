"""Numbers of `race-calc evaluate` as tables (meV, meV/Å)."""

import math
from collections.abc import Mapping
from typing import Any

from ase.data import chemical_symbols
from rich.console import Console
from rich.table import Table
from rich.text import Text

from race_calc.evaluate.assessment import BAD, Assessment, Detection
from race_calc.evaluate.groups import Group, by_element, by_size, everything, size_bounds
from race_calc.evaluate.unified_score import mean_term
from race_calc.report.properties import errors_table
from race_calc.report.tables import milli, percent, percents, plain, plain_table, row
from race_calc.uncertainty.bootstrap import Interval
from race_calc.uncertainty.metrics import LEVELS, calibration_floor

LOW = 0.05  # of a ceiling: σ is much the same everywhere, and a share of it says nothing
QUANTITIES = {
    "energy": "energies",
    "forces": "force components",
    "ellipsoids": "force vectors against χ² of 3 degrees of freedom",
    "stress": "stress components",
    "stress ellipsoids": "stresses against χ² of 6 degrees of freedom",
}
NOTES = (
    "σ: mean predicted standard deviation, total. NLL: with ½ log 2π per dimension, in eV and eV/Å. Inside: percent of the "
    "references in the central 68, 90 and 95 % intervals; of force vectors and stresses, in the ellipsoids of the "
    "covariance. dᵀΣ⁻¹d/3: squared error in units of Σ, 1 where Σ is right. After: scale and level map of the calibration. "
    "Brackets: 95 % interval over resampled structures."
)


def print_tables(
    console: Console,
    found: dict[str, Assessment],
    known: str,
    detected: dict[str, dict[str, Detection]],
    calibrated: bool,
    calibration_frames: float,
    select: str | None,
) -> None:
    """Everything, 100 columns wide at most; `detected`: what tells others from `known`; `calibration_frames`: structures that the
    model was calibrated with, or ∞."""
    if select is not None:
        console.print(Text(f"Only frames with {select}."))
    console.print(errors(found))
    console.print(uncertainties(found, calibrated))
    for quantity in QUANTITIES:  # after: scale and level map
        table = calibration_errors(found, quantity)
        if table is not None:
            console.print(table)
    if any(found[name].before for name in found):
        console.print(Text(floors(found, calibration_frames), style="dim"))
    if any(a.rank is not None for a in found.values()):
        console.print(ranks(found))
    console.print(elements(found))
    console.print(sizes(found))
    for name, a in found.items():
        if told := {what: one for what, one in a.beside.items() if one is not None}:
            console.print(errors_table(f"{name}, in the units of the labels", told, calibrated))
    for name, one in detected.items():
        if one:  # a model without uncertainty has no score
            console.print(detection_table(known, name, one))
    console.print(Text(NOTES, style="dim"))


def errors(found: dict[str, Assessment]) -> Table:
    """Mean absolute and root mean square errors."""
    stress = any(a.evaluation.stress is not None for a in found.values())
    table = plain_table(
        "Errors in meV, meV/atom, meV/Å" + (", meV/Å³" if stress else ""),
        ["data", "frames", "energy\nMAE", "energy\nRMSE", "per atom\nMAE", "per atom\nRMSE", "forces\nMAE", "forces\nRMSE"]
        + (["stress\nMAE", "stress\nRMSE"] if stress else []),
    )
    for name, a in found.items():
        e = a.evaluation
        qualities = [e.energy, e.energy_per_atom, e.forces] + ([e.stress] if stress else [])
        row(table, name, str(e.structures), *[milli(getattr(q, key, None)) for q in qualities for key in ("mae", "rmse")])
    return table


def uncertainties(found: dict[str, Assessment], calibrated: bool) -> Table:
    """σ, likelihood and coverage as RACECalculator gives them."""
    stress = any(a.evaluation.stress is not None for a in found.values())
    table = plain_table(
        "Uncertainties" + (", calibrated: σ scaled" if calibrated else ", not calibrated"),
        ["data", "energy\nσ", "per atom\nσ", "NLL per\nstructure", "inside\n68/90/95 %", "forces\nσ", "NLL per\natom", "inside\n68/90/95 %"]
        + (["stress\nσ"] if stress else []),
    )
    for name, a in found.items():
        e = a.evaluation
        energy, forces = ([plain(q.nll), percents(q.coverage)] for q in (e.energy, e.forces))
        cells = [milli(e.energy.sigma), milli(e.energy_per_atom.sigma), *energy, milli(e.forces.sigma), *forces]
        row(table, name, *cells, *([milli(getattr(e.stress, "sigma", None))] if stress else []))
    return table


def calibration_errors(found: dict[str, Assessment], quantity: str) -> Table | None:
    """Before and after the calibration (scale and level map); None where no data set has the quantity."""
    shown = {name: a for name, a in found.items() if quantity in a.before_quality}
    if not shown:
        return None
    after = any(quantity in a.after_quality for a in shown.values())
    table = plain_table(
        f"Calibration of {QUANTITIES[quantity]}",
        ["data", "error\nbefore"] + ["\nafter", "\nreduced"] * after + ["inside, %\nbefore"] + ["\nafter"] * after,
    )
    for name, a in shown.items():
        one = a.before_quality[quantity]
        error = [_bracketed(one.calibration_error)]
        covered = [_covered(one.coverage)]
        if after:
            two = a.after_quality[quantity]
            ratio = 1.0 - two.calibration_error.value / max(one.calibration_error.value, 1e-12)
            error += [_bracketed(two.calibration_error), f"{100 * ratio:.0f} %"]
            covered += [_covered(two.coverage)]
        row(table, name, *error, *covered)
    return table


def floors(found: dict[str, Assessment], calibration_frames: float) -> str:
    """The calibration error of a perfect model on as many independent structures."""
    parts = []
    for name, a in found.items():
        frames = len(a.raw)
        before, after = calibration_floor(math.inf, frames), calibration_floor(calibration_frames, frames)
        parts.append(f"{name} {before:.4f}" + (f", after {after:.4f}" if math.isfinite(calibration_frames) else ""))
    return "Calibration error of energies that a perfect model has on so few structures: " + "; ".join(parts) + "."


def ranks(found: dict[str, Assessment]) -> Table:
    """Whether the atoms with the larger σ have the larger errors."""
    table = plain_table("Rank correlation of √tr Σ and |ΔF| over the atoms", ["data", "measured", "ceiling", "measured / ceiling"])
    for name, a in found.items():
        if a.rank is not None:
            value, ceiling = a.rank
            row(table, name, f"{value:.3f}", f"{ceiling:.3f}", f"{value / ceiling:.2f}" if ceiling > LOW else "–")
    return table


def elements(found: dict[str, Assessment]) -> Table:
    """Forces by element."""
    groups = {name: {0: everything(a.residuals, a.covered)} | by_element(a.residuals, a.covered) for name, a in found.items()}
    kinds = sorted({z for one in groups.values() for z in one})
    return _grouped("Forces by element", found, groups, {z: chemical_symbols[z] if z else "all" for z in kinds})


def sizes(found: dict[str, Assessment]) -> Table:
    """Forces by the length of the reference force."""
    bounds = size_bounds([a.raw.force_size for a in found.values()])
    groups = {name: by_size(a.residuals, a.covered, bounds) for name, a in found.items()}
    kinds = {key: f"{key[0]:.2f}–{key[1]:.2f} eV/Å" for key in sorted({key for one in groups.values() for key in one})}
    return _grouped("Forces by size", found, groups, kinds)


def _grouped(title: str, found: dict[str, Assessment], groups: Mapping[str, Mapping[Any, Group]], kinds: Mapping[Any, str]) -> Table:
    table = plain_table(
        f"{title}: RMSE, root mean square σ (meV/Å), percent inside 90 %, mean dᵀΣ⁻¹d/3",
        ["data", "", "atoms", "RMSE", "σ", "σ / RMSE", "inside 90 %", "dᵀΣ⁻¹d/3"],
    )
    for name in found:
        for key, label in kinds.items():
            one = groups[name].get(key)
            if one is not None:
                ratio = None if one.sigma is None or one.rmse == 0 else one.sigma / one.rmse
                row(
                    table,
                    name,
                    label,
                    str(one.atoms),
                    milli(one.rmse),
                    milli(one.sigma),
                    plain(ratio),
                    percent(one.covered),
                    plain(one.squared),
                )
    return table


def detection_table(known: str, name: str, detected: dict[str, Detection]) -> Table:
    """Every score against one other data set."""
    bad = next(iter(detected.values())).bad
    table = plain_table(
        f"{name} told from {known}; {bad} structures are bad: force RMSE above {BAD:g} times that of {known}",
        ["score", "AUROC", "AUPR", "FPR at\n95 % TPR", "above auto, %\nknown", "\nthis set", "bad\nmissed"],
    )
    for criterion, d in detected.items():
        alarms = [percent(share) for share in (d.alarms_known, d.alarms_other)]
        missed = "–" if d.missed is None else str(d.missed)
        row(table, criterion, f"{d.auroc:.4f}", f"{d.aupr:.4f}", f"{d.fpr_at_95_tpr:.4f}", *alarms, missed)
    return table


def score_line(terms: dict[str, float], criterion: str) -> str:
    """The unified score and its terms."""
    shown = ", ".join(f"{name} {value:.3f}" for name, value in terms.items())
    return f"Unified score (0 perfect, 1 useless): {mean_term(terms):.3f}, the mean of {shown}; AUROC of {criterion}."


def _bracketed(value: Interval) -> str:
    if math.isnan(value.low):
        return f"{value.value:.4f}"
    return f"{value.value:.4f} ({value.low:.4f}–{value.high:.4f})"


def _covered(coverage: dict[float, Interval]) -> str:
    return "/".join(f"{100 * coverage[level].value:.0f}" for level in LEVELS)
