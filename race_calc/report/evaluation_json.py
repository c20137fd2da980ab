"""Numbers of `race-calc evaluate` as JSON: the unit is in each key, what is unknown or not finite is null."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from race_calc import __version__
from race_calc.data.files import write_atomically
from race_calc.data.hashes import data_hash
from race_calc.evaluate.assessment import Assessment, Comparison
from race_calc.evaluate.errors import Evaluation
from race_calc.evaluate.groups import Group, by_element, by_size, everything, size_bounds
from race_calc.evaluate.overlap import Overlap
from race_calc.evaluate.reference_level import ReferenceLevel
from race_calc.evaluate.reliability import Reliability
from race_calc.evaluate.unified_score import mean_term
from race_calc.report.json_text import as_json
from race_calc.uncertainty.metrics import LEVELS, calibration_floor


def write_json(path: Path, compared: Comparison, run: dict[str, str | None]) -> None:
    """Everything that the tables show, and the intervals of all numbers that have one; `run`: model, select and dtype."""
    found, calibration = compared.found, compared.calibration
    bounds = size_bounds([a.raw.force_size for a in found.values()])
    frames = math.inf if calibration is None else calibration.frames
    sections = [
        {
            "file": name,
            "sha256": data_hash(compared.sets[name]),
            **_told(a, frames, bounds),
            "reference_level": _level(a.level),
            "overlap": _overlap(compared.overlaps.get(name)),
            "without_overlap": _told(compared.unseen[name], frames, bounds) if name in compared.unseen else None,
        }
        for name, a in found.items()
    ]
    first = next(iter(found))
    content: dict[str, Any] = {
        "race_calc": __version__,
        **run,
        "calibrated": calibration is not None,
        "calibration_sha256": None if calibration is None else calibration.data_hash,
        "data": sections,
    }
    if compared.detected:
        content["detection"] = {
            "in_distribution": first,
            "out_of_distribution": {name: {score: asdict(d) for score, d in one.items()} for name, one in compared.detected.items()},
        }
    if compared.terms is not None:
        content["unified_score"] = {"score": mean_term(compared.terms), "terms": compared.terms}
    write_atomically(path, (as_json(content) + "\n").encode())


def _told(a: Assessment, calibration_frames: float, bounds) -> dict[str, Any]:
    beside = {name: None if one is None else asdict(one) for name, one in a.beside.items()}
    return numbers(a.evaluation) | _reliability(a, calibration_frames) | _groups(a, bounds) | ({"beside": beside} if beside else {})


def _level(level: ReferenceLevel | None) -> dict[str, float | bool] | None:
    if level is None:
        return None
    lengths = {"offset_meV": level.offset, "offset_meV_per_atom": level.offset_per_atom, "spread_meV": level.spread}
    return {name: 1e3 * value for name, value in lengths.items()} | {
        "energy_rmse_without_offset_meV": 1e3 * level.rmse,
        "looks_like_another_level": level.doubted,
    }


def _overlap(found: Overlap | None) -> dict[str, Any] | None:
    if found is None:
        return None
    parts = {name: len(getattr(found, name)) for name in ("trained_on", "chosen_on", "calibrated_on", "seen", "unseen")}
    return parts | {"not_recorded": list(found.untold)}


def numbers(e: Evaluation) -> dict[str, int | float | None]:
    """Errors and uncertainties of one data set. Coverage is a fraction, 0 to 1."""
    found: dict[str, int | float | None] = {"structures": e.structures, "atoms": e.atoms, "structures_with_stress": e.stresses}
    kinds = {
        ("energy", "meV", "per_structure"): e.energy,
        ("energy_per_atom", "meV", ""): e.energy_per_atom,
        ("force", "meV_per_A", "per_atom"): e.forces,
        ("stress", "meV_per_A3", "per_structure"): e.stress,
    }
    for (name, unit, per), quality in kinds.items():
        found |= _quality_numbers(name, unit, per, quality)
    return found


def _quality_numbers(name: str, unit: str, per: str, q: Any) -> dict[str, float | None]:
    milli = lambda value: None if value is None else 1e3 * value  # noqa: E731
    found = {f"{name}_{key}_{unit}": milli(getattr(q, key, None)) for key in ("mae", "rmse")}
    found[f"{name}_mean_sigma_{unit}"] = milli(getattr(q, "sigma", None))
    if per:
        found[f"{name}_nll_nat_{per}"] = getattr(q, "nll", None)
        found[f"{name}_calibration_error"] = getattr(q, "calibration_error", None)
        covered = getattr(q, "coverage", None)
        for level in LEVELS:
            found[f"{name}_coverage_{100 * level:.0f}_fraction"] = None if covered is None else covered[level]
    return found


def _reliability(a: Assessment, calibration_frames: float) -> dict:
    found = {
        "calibration_before": _quantities(a.before_quality),
        "calibration_after": _quantities(a.after_quality),
        "calibration_error_floor_before": calibration_floor(math.inf, len(a.raw)),
        "calibration_error_floor_after": calibration_floor(calibration_frames, len(a.raw)),
    }
    if a.rank is not None:
        found |= {"force_rank_correlation": a.rank[0], "force_rank_ceiling": a.rank[1]}
    return found


def _quantities(qualities: dict[str, Reliability]) -> dict:
    return {
        name: {
            "calibration_error": asdict(q.calibration_error),
            **{f"coverage_{100 * level:.0f}_fraction": asdict(interval) for level, interval in q.coverage.items()},
        }
        for name, q in qualities.items()
    }


def _groups(a: Assessment, bounds) -> dict:
    def name(g: Group) -> dict[str, float | None]:
        sigma = None if g.sigma is None else 1e3 * g.sigma
        return {
            "atoms": g.atoms,
            "force_rmse_meV_per_A": 1e3 * g.rmse,
            "force_rms_sigma_meV_per_A": sigma,
            "coverage_90_fraction": g.covered,
            "mean_squared_over_covariance": g.squared,
        }

    sizes = [{"from_eV_per_A": low, "to_eV_per_A": high, **name(g)} for (low, high), g in by_size(a.residuals, a.covered, bounds).items()]
    every = {"all_atoms": name(everything(a.residuals, a.covered))}
    return every | {
        "by_element": {chemical_symbols[z]: name(g) for z, g in by_element(a.residuals, a.covered).items()},
        "by_force_size": sizes,
    }
