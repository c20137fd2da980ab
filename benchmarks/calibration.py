"""How well every posterior is calibrated, before and after recalibration, on three systems.

    python benchmarks/calibration.py --system acac --data FOLDER --runs runs/acac [--only de-jef]

Runs: `runs.py`. In distribution: 200 random halves of the test set, calibrated with one half and tested on the other. Out of
distribution: calibrated with the whole test set. Single models are member 0 of the ensemble. Writes `calibration.json` and
`calibration.md` into --runs.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments
from runs import CPU, ROWS

from race_calc.data.dataset import read_dataset
from race_calc.evaluate.assessment import Assessment, assess, detections
from race_calc.evaluate.calibrate import calibrate
from race_calc.evaluate.reliability import calibrated_levels, nominal_levels
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.model.hardware import keep_freed_memory
from race_calc.model.parameters import select_members
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.uncertainty.calibration import fit_calibration
from race_calc.uncertainty.conformal import coverage_band
from race_calc.uncertainty.metrics import LEVELS, calibration_floor, coverage, gaussian_nll, level_error, mahalanobis, rmse, vector_nll
from race_calc.uncertainty.ranking import force_rank_ceiling, force_rank_correlation
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.scaling import covariance_scale, variance_scale

SYSTEMS = {  # name → known, others
    "3bpa": ("id_300K", ("ood_600K", "ood_1200K")),
    "acac": ("id_300K", ("ood_600K",)),
    "silicon": ("liquid_test", ("liquid_sw_ood", "solid_ood")),
}
SCORES = {
    "E": ("energy_uncertainty_per_atom_epistemic", "energy_uncertainty_per_atom"),
    "F": ("forces_uncertainty_rms_epistemic", "forces_uncertainty_rms"),
}
KINDS = {"energy": "E", "forces": "F"}
SPLITS = 200
QUANTITIES = ("energy", "forces", "ellipsoids")


def random_halves(raw, seed: int = 0) -> dict[str, float]:
    """Means over SPLITS halves, and the share of halves whose conformal coverage is in its own 99 % band."""
    rng, n = np.random.default_rng(seed), len(raw)
    half = n // 2
    found: dict[str, list[float]] = {}
    note = lambda key, value: found.setdefault(key, []).append(float(value))  # noqa: E731
    for _ in range(SPLITS):
        order = rng.permutation(n)
        known, new = raw.subset(order[:half]), raw.subset(order[half:])
        calibration = fit_calibration(known)
        before, after = nominal_levels(new), calibrated_levels(new, calibration)
        for name in after:
            note(f"CE {name} before", level_error(before[name]))
            note(f"CE {name} after", level_error(after[name]))
        for level in (0.68, 0.95):
            if "ellipsoids" in after:
                note(f"ellipsoids {level}", np.mean(after["ellipsoids"] <= level))
        scaled = calibration.scaled(new)
        if calibration.energy is not None:
            q = next(q for q in calibration.energy.conformal if q.level == 0.9)
            covered = np.mean(np.abs(scaled.energy) / scaled.energy_std <= q.quantile)
            low, high = coverage_band(0.9, half, n - half, 0.99)
            note("conformal 90 % energy", covered)
            note("conformal in its 99 % band", low <= covered <= high)
        if calibration.forces is not None and calibration.forces.conformal:
            q = next(q for q in calibration.forces.conformal if q.level == 0.9)
            note("conformal 90 % forces", np.mean(mahalanobis(scaled.forces, scaled.forces_covariance) <= q.quantile**2))
    out = {key: float(np.mean(values)) for key, values in found.items()}
    return out | {"floor after": calibration_floor(half, n - half), "floor before": calibration_floor(math.inf, n - half)}


def elsewhere(one: Assessment, known: Residuals) -> dict:
    """Another data set, [before, after]: errors of the levels with intervals, `promises`, ranking of the atoms; NLL with one factor."""
    found: dict = {}
    for name in one.after_quality:
        intervals = [quality[name].calibration_error for quality in (one.before_quality, one.after_quality)]
        found[f"CE {name}"] = [[interval.value, interval.low, interval.high] for interval in intervals]
    before, after, factor = promises(one.raw), promises(one.residuals), one_factor(known, one.raw)
    if one.rank is not None:
        covariance = one.residuals.forces_covariance
        found["rank"] = [one.rank[0], force_rank_correlation(one.raw.forces, covariance)]
        found["ceiling"] = force_rank_ceiling(covariance)
    return found | {key: [before[key], *([factor[key]] if key in factor else []), after[key]] for key in before}


def promises(residuals: Residuals) -> dict:
    """Percent of energies and of force components inside the Gaussian intervals of 68, 90 and 95 %; mean NLL, nat."""
    r, told = residuals, {}
    for name, difference, std in (("energy", r.energy, r.energy_std), ("forces", r.forces, r.forces_std)):
        if std is not None:
            told[f"inside {name}"] = [100 * coverage(difference, std, level) for level in LEVELS]
    if r.energy_variance is not None:
        told["NLL energy"] = gaussian_nll(r.energy, r.energy_variance)
    if r.forces_covariance is not None:
        told["NLL forces"] = vector_nll(r.forces, r.forces_covariance)
    return told


def one_factor(known: Residuals, new: Residuals) -> dict:
    """Mean NLL where one factor, fitted to the known set, multiplies all of the variance."""
    told = {}
    if known.energy_variance is not None:
        told["NLL energy"] = gaussian_nll(new.energy, variance_scale(known.energy, known.energy_variance) * new.energy_variance)
    if known.forces_covariance is not None:
        factor = covariance_scale(known.forces, known.forces_covariance)
        told["NLL forces"] = vector_nll(new.forces, factor * new.forces_covariance)
    return told


def measured(predictor, sets: dict) -> dict:
    """All numbers of one posterior; the first set is the known one, the others are calibrated with the whole of it."""
    first, *rest = sets
    calibration, _ = calibrate(predictor, sets[first])
    judged = {name: assess(predictor, calibration, data) for name, data in sets.items()}
    raw = {name: one.raw for name, one in judged.items()}
    detected = {name: detections(judged[first], judged[name], calibration.thresholds) for name in rest}
    found = {
        "rmse": {name: [1e3 * rmse(one.energy), 1e3 * rmse(one.forces)] for name, one in raw.items()},
        "known": random_halves(raw[first]),
        "others": {name: elsewhere(judged[name], raw[first]) for name in rest},
        "auroc": {},
    }
    for kind, names in SCORES.items():
        score = next((n for n in names if n in judged[first].evaluation.scores), None)
        for name in rest:
            found["auroc"][f"{kind} {name}"] = None if score is None else detected[name][score].auroc
    return found


def table(results: dict, known: str, others: tuple[str, ...]) -> str:
    """Markdown. "→": before and after the calibration."""
    number = lambda values, key: f"{values[key]:.4f}" if key in values else "–"  # noqa: E731
    arrow = lambda values, name: f"{number(values, f'CE {name} before')} → {number(values, f'CE {name} after')}"  # noqa: E731
    lines = [
        f"| {known}, halves | RMSE E / F, meV, meV/Å | CE energies | CE forces | CE vectors | conformal 90 %: energies, in band, forces "
        "| 68 / 95 % ellipsoids |\n|" + "---|" * 7
    ]
    share = lambda values, key: f"{100 * values[key]:.1f}" if key in values else "–"  # noqa: E731
    for row, found in results.items():
        v = found["known"]
        cells = [" / ".join(f"{value:.1f}" for value in found["rmse"][known])] + [arrow(v, name) for name in QUANTITIES]
        cells += [
            f"{share(v, 'conformal 90 % energy')}, {share(v, 'conformal in its 99 % band')}, {share(v, 'conformal 90 % forces')}",
            f"{share(v, 'ellipsoids 0.68')} / {share(v, 'ellipsoids 0.95')}",
        ]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    floor = next(iter(results.values()))["known"]
    lines.append(f"\nFloor of the CE of energies: {floor['floor before']:.4f} before, {floor['floor after']:.4f} after")
    lines += [other_table(results, name, quantity) for name in others for quantity in KINDS]
    return "\n".join(lines) + "\n"


def other_table(results: dict, name: str, quantity: str) -> str:
    """Of the energies or the forces of another data set; how the atoms are ranked stands with the forces."""
    kind, forces = KINDS[quantity], quantity == "forces"
    head = f"| {name}, {quantity} | RMSE, {'meV/Å' if forces else 'meV'} | % inside 68/90/95 | NLL (one factor) | CE | AUROC |"
    head += " rank / ceiling |" * forces
    lines = ["", head, "|" + "---|" * head.count(" |")]
    for row, found in results.items():
        v, score = found["others"][name], found["auroc"][f"{kind} {name}"]
        cells = [
            f"{found['rmse'][name]['EF'.index(kind)]:.1f}",
            changed(v, f"inside {quantity}", lambda values: "/".join(f"{value:.0f}" for value in values)),
            changed(v, f"NLL {quantity}", "{:.2f}".format),
            level_errors(v, quantity),
            "–" if score is None else f"{score:.3f}",
        ]
        if forces:
            cells.append(f"{changed(v, 'rank', '{:.2f}'.format)} / {v['ceiling']:.2f}" if "rank" in v else "–")
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def changed(values: dict, key: str, text: Callable[[Any], str]) -> str:
    """Before → with one factor, where that is given → calibrated."""
    return " → ".join(map(text, values[key])) if key in values else "–"


def level_errors(values: dict, quantity: str) -> str:
    """The calibration error before → after the calibration, with an interval for the second."""
    found = values.get(f"CE {quantity}")
    return "–" if found is None else "{:.4f} → {:.4f} ({:.4f}–{:.4f})".format(found[0][0], *found[1])


if __name__ == "__main__":
    given = arguments(__doc__, system="acac", data=".", runs="runs/acac", only="")
    keep_freed_memory()
    known, others = SYSTEMS[given.system]
    sets = {name: read_dataset(Path(given.data) / f"{name}.xyz") for name in (known, *others)}
    path = Path(given.runs) / "calibration.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for row, (run, kind) in ROWS.items():
        folder = Path(given.runs) / run
        if row in results or (given.only and run not in given.only.split(",")) or not (folder / "weights.safetensors").exists():
            continue
        if row == "MSE":
            continue  # a single one has no uncertainty
        checkpoint = load_checkpoint(folder, calibration=False)
        if kind == "single":
            checkpoint = replace(checkpoint, posterior="mve", parameters=select_members(checkpoint.parameters, [0]))
        results[row] = measured(StackPredictor(load_stack(checkpoint, torch.float64, CPU)), sets)
        path.write_text(json.dumps(results, indent=1))
        print(row, flush=True)
    results = {row: results[row] for row in ROWS if row in results}
    text = table(results, known, others)
    (Path(given.runs) / "calibration.md").write_text(text)
    print(text)
