"""How well every posterior is calibrated, before and after recalibration, on three systems.

    python benchmarks/calibration.py --system acac --data FOLDER --runs runs/acac [--only de-jef]

Runs: `runs.py` (3bpa: `posteriors.py`). In distribution: 200 random halves of the test set, calibrated with one half and
tested on the other. Out of distribution: calibrated with the whole test set. Single models are member 0 of the ensemble.
Writes `calibration.json` and `calibration.md` into --runs.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

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
from race_calc.uncertainty.metrics import calibration_floor, gaussian_nll, level_error, mahalanobis, rmse, vector_nll
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


def elsewhere(one: Assessment) -> dict:
    """Calibration errors with intervals of another data set, before and after, and how well its atoms are ranked."""
    found = {}
    for name in one.after_quality:
        for when, quality in (("before", one.before_quality[name]), ("after", one.after_quality[name])):
            interval = quality.calibration_error
            found[f"CE {name} {when}"] = [interval.value, interval.low, interval.high]
    return found | ({} if one.rank is None else {"rank correlation": list(one.rank)})


def factors(known, others: dict) -> dict:
    """NLL of energies with one factor for the whole variance and with one for each part, fitted to the known set."""
    if known.energy_variance is None:
        return {}
    one, two = variance_scale(known.energy, known.energy_variance), fit_calibration(known)
    c_e, c_a = two.energy.epistemic, two.energy.aleatoric
    found = {"one": one, "epistemic": c_e, "aleatoric": c_a, "energy": two.energy.way, "forces": two.forces and two.forces.way}
    for name, raw in {"known": known, **others}.items():
        found[name] = [
            gaussian_nll(raw.energy, raw.energy_variance),
            gaussian_nll(raw.energy, one * raw.energy_variance),
            gaussian_nll(raw.energy, _of_parts(raw, c_e, c_a)),
            gaussian_nll(raw.energy, two.scaled(raw).energy_variance),
        ]
        if known.forces_covariance is not None and two.forces.ellipsoids is not None:
            c = covariance_scale(known.forces, known.forces_covariance)
            ways = raw.forces_covariance, c * raw.forces_covariance, two.scaled(raw).forces_covariance
            found[f"{name} forces"] = [vector_nll(raw.forces, covariance) for covariance in ways]
    return found


def _of_parts(raw, epistemic: float, aleatoric: float) -> np.ndarray:
    noise = 0.0 if raw.energy_aleatoric is None else raw.energy_aleatoric
    return epistemic * (raw.energy_variance - noise) + aleatoric * noise


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
        "others": {name: elsewhere(judged[name]) for name in rest},
        "auroc": {},
        "missed": None,
        "factors": factors(raw[first], {name: raw[name] for name in rest}),
    }
    for kind, names in SCORES.items():
        score = next((n for n in names if n in judged[first].evaluation.scores), None)
        for name in rest:
            found["auroc"][f"{kind} {name}"] = None if score is None else detected[name][score].auroc
        if kind == "F" and score is not None:
            found["missed"] = [sum(d[score].bad for d in detected.values()), sum(d[score].missed for d in detected.values())]
    return found


def table(results: dict, known: str, others: tuple[str, ...]) -> str:
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
    for name in others:
        lines += [
            "",
            f"| {name} | RMSE E / F | CE energies | less | CE forces | less | CE vectors | AUROC E / F | rank / ceiling |\n|" + "---|" * 9,
        ]
        for row, found in results.items():
            v, cells = found["others"][name], [" / ".join(f"{value:.1f}" for value in found["rmse"][name])]
            for quantity in QUANTITIES:
                b, a = v.get(f"CE {quantity} before"), v.get(f"CE {quantity} after")
                cells.append("–" if b is None else f"{b[0]:.4f} → {a[0]:.4f} ({a[1]:.4f}–{a[2]:.4f})")
                if quantity != "ellipsoids":
                    cells.append("–" if b is None else f"{100 * (1 - a[0] / b[0]):.0f} %" if a[0] < b[0] else f"{a[0] / b[0]:.1f} × more")
            both = [found["auroc"][f"{kind} {name}"] for kind in "EF"]
            cells.append(" / ".join("–" if value is None else f"{value:.3f}" for value in both))
            rank = v.get("rank correlation")
            cells.append("–" if rank is None else f"{rank[0]:.2f} / {rank[1]:.2f}")
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def factor_table(results: dict, known: str, others: tuple[str, ...]) -> str:
    """Mean NLL of energies without factor, with one, with one for each part, and as they are calibrated; where the factors differ."""
    lines = ["| posterior | data | not calibrated | one factor | one for each part | calibrated |\n|---|---|---|---|---|---|"]
    for row, found in results.items():
        f = found["factors"]
        if f and f["epistemic"] != f["aleatoric"]:
            for key, name in (("known", known), *((name, name) for name in others)):
                lines.append(f"| {row} | {name} | " + " | ".join(f"{value:.2f}" for value in f[key]) + " |")
    return "\n".join(lines) + "\n"


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
    text = table(results, known, others) + "\nNLL of energies, nat per structure\n\n" + factor_table(results, known, others)
    (Path(given.runs) / "calibration.md").write_text(text)
    print(text)
