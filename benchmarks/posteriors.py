"""Every posterior on 3BPA at equal budget: errors, likelihood, calibration, detection, and what it costs.

    python benchmarks/posteriors.py --data FOLDER_WITH_3BPA --runs runs/paper/correlation-2-seed0    trains what is not there yet
    python benchmarks/posteriors.py --data … --runs … --times 1                                      costs as well (idle machine)

Each run is `configs/3bpa.yaml` with the changes in CASES, the same that paper_table.py trains there; it is resumed when it was
interrupted. Rows of single models are means over the members of the ensemble beside them, ± their standard deviation. Writes
`posteriors.md` and `posteriors.json` into --runs. The figure: `posteriors_figure.py`.
"""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import arguments, interleaved, start
from runs import CASES, CPU, POST_HOC, ROWS, make, minutes

from race_calc.data.dataset import read_dataset
from race_calc.data.graph import from_atoms
from race_calc.evaluate.errors import evaluate_dataset
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.model.hardware import keep_freed_memory
from race_calc.model.parameters import select_members, shares_trunk
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.uncertainty.detection import auroc

SETS = ("id_300K", "ood_600K", "ood_1200K")
BASE = Path(__file__).parent / "configs" / "3bpa.yaml"


def measured(stack, sets: dict) -> dict[str, float | None]:
    found, scores = {}, {}
    for name, data in sets.items():
        evaluation = evaluate_dataset(StackPredictor(stack), data)
        for kind, quality in (("E", evaluation.energy), ("F", evaluation.forces)):
            found |= {
                f"RMSE {kind} {name}": 1e3 * quality.rmse,
                f"NLL {kind} {name}": quality.nll,
                f"CE {kind} {name}": quality.calibration_error,
            }
        scores[name] = evaluation.scores
    for kind, names in {
        "E": ("bald_energy", "energy_uncertainty_per_atom_epistemic", "energy_uncertainty_per_atom"),
        "F": ("bald_forces_max", "forces_uncertainty_max_epistemic", "forces_uncertainty_max"),
    }.items():
        name = next((n for n in names if n in scores["id_300K"]), None)
        found[f"AUROC {kind}"] = None if name is None else auroc(scores["id_300K"][name], scores["ood_1200K"][name])
    return found


def summary(rows: list[dict]) -> dict[str, tuple[float, float] | None]:
    """Mean and standard deviation of each number over the members; (value, nan) of one row."""
    out = {}
    for key in rows[0]:
        values = [row[key] for row in rows if row[key] is not None and np.isfinite(row[key])]
        out[key] = (float(np.mean(values)), float(np.std(values)) if len(rows) > 1 else float("nan")) if values else None
    return out


def costs(runs: Path, rounds: int) -> dict[str, float]:
    """Milliseconds of a step, all in one interleaved run."""
    steps = {}
    graph = from_atoms(start(300.0, 0), 5.0)
    for row, (run, kind) in ROWS.items():
        checkpoint = load_checkpoint(runs / run)
        if kind == "single":
            checkpoint = replace(checkpoint, parameters=select_members(checkpoint.parameters, [0]))
        steps[row] = partial(load_stack(checkpoint, torch.float64, CPU).predict, graph)
        if shares_trunk(checkpoint.parameters):
            cheap = load_stack(checkpoint, torch.float64, CPU, forces_epistemic=False)
            steps[f"{row}, forces_epistemic=False"] = lambda s=cheap: s.predict(graph)
    return interleaved(steps, 10 * rounds)


def _minutes(runs: Path, run: str) -> str:
    """Of the training, and of a fit after it."""
    of = POST_HOC.get(run, (None,))[0]
    return f"{minutes(runs / run):.1f}" if of is None else f"{minutes(runs / of):.1f} and {minutes(runs / run):.1f}"


def cell(value: tuple[float, float] | None, digits: int) -> str:
    if value is None:
        return "–"
    mean, deviation = value
    return f"{mean:.{digits}f}" + ("" if np.isnan(deviation) else f" ± {deviation:.{digits}f}")


def table(results: dict) -> str:
    first = "| posterior | " + " | ".join(f"RMSE E / F {name.split('_')[1]}" for name in SETS) + " |"
    lines = [first + "\n|" + "---|" * (1 + len(SETS))]
    for row, found in results["rows"].items():
        cells = [f"{cell(found[f'RMSE E {s}'], 1)} / {cell(found[f'RMSE F {s}'], 1)}" for s in SETS]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    lines += ["", "| posterior | NLL E / F 300K | NLL E / F 1200K | CE E / F 300K | CE E / F 1200K | AUROC E / F |\n|" + "---|" * 6]
    for row, found in results["rows"].items():
        pairs = [(f"NLL {{}} {s}", 2) for s in ("id_300K", "ood_1200K")] + [(f"CE {{}} {s}", 3) for s in ("id_300K", "ood_1200K")]
        cells = [" / ".join(cell(found[key.format(k)], digits) for k in "EF") for key, digits in [*pairs, ("AUROC {}", 3)]]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    if "step, ms" in results:
        step = results["step, ms"]
        lines += ["", "| posterior | step, ms | over one MSE model | training, CPU minutes |\n|---|---|---|---|"]
        for name, ms in step.items():
            lines.append(f"| {name} | {ms:.1f} | {ms / step['MSE']:.2f} | {results['minutes'][name.split(',')[0]]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    given = arguments(__doc__, data=".", runs="runs/paper/correlation-2-seed0", times=0, only="")
    keep_freed_memory()
    data, runs = Path(given.data), Path(given.runs)
    wanted = given.only.split(",") if given.only else [*CASES, *POST_HOC]
    for case in wanted:
        make(case, BASE, data, runs / case)
    sets = {name: read_dataset(data / f"{name}.xyz") for name in SETS}
    path = runs / "posteriors.json"
    results = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    for row, (run, kind) in ROWS.items():
        if run not in wanted or row in results["rows"]:
            continue
        stack = load_stack(load_checkpoint(runs / run), torch.float64, CPU)
        singles = range(stack.members) if kind == "single" else ()
        stacks = [replace(stack, parameters=select_members(stack.parameters, [m])) for m in singles] or [stack]
        results["rows"][row] = summary([measured(one, sets) for one in stacks])
        path.write_text(json.dumps(results, indent=1))
    if given.times:
        results["step, ms"] = costs(runs, given.times)
        results["minutes"] = {row: _minutes(runs, run) for row, (run, _) in ROWS.items()}
    results["rows"] = {row: results["rows"][row] for row in ROWS if row in results["rows"]}
    path.write_text(json.dumps(results, indent=1))
    (runs / "posteriors.md").write_text(table(results))
    print(table(results))
