"""What `race-calc calibrate` tells: warnings about small sets and a table before and after."""

import math

import numpy as np
from rich.table import Table

from race_calc.evaluate.cross_fit import cross_fitted_levels
from race_calc.evaluate.reliability import inside, nominal_levels
from race_calc.report.tables import percents, plain_table, row
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.calibration_vectors import VectorCalibration
from race_calc.uncertainty.conformal import coverage_band, frames_needed
from race_calc.uncertainty.held_back import FOLDS
from race_calc.uncertainty.metrics import LEVELS, calibration_floor, level_error
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.thresholds import FALSE_ALARM_RATE, FEWEST

FEW = 100  # structures, below which a calibration is called small


def small_set_warnings(structures: int) -> list[str]:
    """Sentences about what few structures cannot tell; [] from FEW on."""
    if structures >= FEW:
        return []
    low, high = coverage_band(0.9, structures, confidence=0.95) if structures >= frames_needed(0.9) else (0.0, 1.0)
    found = [
        f"{structures} structures are few: the true coverage of 90 % intervals lies anywhere from {100 * low:.0f} to "
        f"{100 * high:.0f} % (with a confidence of 95 %), {FEW} or more would tell better"
    ]
    if structures < FEWEST:
        found.append(f"{structures} structures give no thresholds for the monitor: {FEWEST} are the fewest, {FEW} make them sharper")
    missing = [level for level in LEVELS if structures < frames_needed(level)]
    if missing:
        shown = ", ".join(f"{100 * level:.0f} % (needs {frames_needed(level)})" for level in missing)
        found.append(f"{structures} structures give no conformal interval of {shown}")
    return found


def summary_table(calibration: Calibration, raw: Residuals) -> Table:
    """Factors of σ, coverage and calibration error of the calibration data; after: each block by a fit to the others."""
    before = nominal_levels(raw)
    after = cross_fitted_levels(raw) if len(raw) >= FOLDS else {}
    table = plain_table(
        f"Before and after, {len(raw)} structures; after: each fifth calibrated with the other four",
        ["quantity", "σ times", "inside 68/90/95 %\nbefore", "\nafter", "calibration\nerror before", "\nafter", "conformal\nmultiples"],
    )
    energy, forces, stress = calibration.energy, calibration.forces, calibration.stress
    by_size = energy is not None and energy.form is not None
    parts = "" if energy is None else f"{_root(energy.epistemic)} e, {_root(energy.aleatoric)} a"
    factors = {
        "energy": "by size" if by_size else parts if raw.energy_aleatoric is not None else parts.split(" ")[0],
        "forces": _way(forces),
        "stress": _way(stress),
    }
    conformal = {
        "energy": () if energy is None else energy.conformal,
        "ellipsoids": () if forces is None else forces.conformal,
        "stress ellipsoids": () if stress is None else stress.conformal,
    }
    for name, levels in before.items():
        row(
            table,
            name,
            factors.get(name, ""),
            _inside(levels, name),
            _inside(after.get(name), name),
            f"{level_error(levels):.4f}",
            "–" if name not in after else f"{level_error(after[name]):.4f}",
            _multiples(conformal.get(name, ())),
        )
    return table


def choice_lines(calibration: Calibration) -> list[str]:
    """What recalibrates energies and forces, and what else there was."""
    lines = []
    for name, part, per in (
        ("Energies", calibration.energy, "structure"),
        ("Forces", calibration.forces, "atom"),
        ("Stresses", calibration.stress, "structure"),
    ):
        if part is not None and part.held_back:
            others = ", ".join(f"{told.name} {told.nll:.2f}" for told in part.held_back)
            lines.append(f"{name}: {part.way}. NLL of blocks held back, in nat per {per}: {others}.")
    for name, energy in calibration.beside.items():
        factors = "" if energy.form is not None else f", of σ {_root(energy.epistemic)} e, {_root(energy.aleatoric)} a"
        lines.append(f"{name}: {energy.way}{factors}.")
    return lines


def alarms_line(calibration: Calibration) -> str:
    """What "auto" promises with so many structures."""
    n = calibration.frames
    if not calibration.thresholds:
        return f'No thresholds "auto" for the monitor: {n} structures tell no tail, {FEWEST} are the fewest.'
    claim = "counted" if FALSE_ALARM_RATE * (n + 1) >= 1 else f"extrapolated: {n} structures alone can count {1 / (n + 1):.2g}"
    return (
        f'Thresholds "auto" of {len(calibration.thresholds)} criteria: the default monitor flags {FALSE_ALARM_RATE:g} of independent '
        f"structures of this kind ({claim})."
    )


def floor_line(structures: int) -> str:
    """The calibration error that even a perfect model has on so few structures."""
    return (
        f"A perfect model would have a calibration error of {calibration_floor(math.inf, structures):.4f} before, "
        f"{calibration_floor(max(structures * (FOLDS - 1) / FOLDS, 1), structures):.4f} after (of energies: forces have more "
        "values). σ times: e the epistemic, a the aleatoric part."
    )


def _way(part: VectorCalibration | None) -> str:
    """What σ is multiplied with."""
    return "" if part is None else _root(part.scale) if part.form is None else "by size"


def _root(scale: float) -> str:
    return f"{math.sqrt(scale):.3g}"


def _inside(levels: np.ndarray | None, name: str) -> str:
    return percents(None if levels is None else {level: float(inside(levels, level, name).mean()) for level in LEVELS})


def _multiples(conformal) -> str:
    return "/".join("–" if math.isinf(q.quantile) else f"{q.quantile:.2f}" for q in conformal)
