"""The table of the paper on 3BPA: MSE, its ensemble, DE-E, DE-JEF and Laplace, without products (its model) and with them.

    python benchmarks/paper_table.py --data FOLDER_WITH_3BPA --runs runs/paper [--seeds 3]

Trains what is not there yet (`runs.py`, `configs/3bpa.yaml`), resumes what was interrupted, and prints a table for each of the
MODELS: RMSE of energies (meV) and forces (meV/Å) on the test frames of split.py, in brackets on all frames; the mean over seeds
and, of the row MSE, over members; CPU minutes of a run. Writes `table.md` and `results.json` into --runs.
"""

import json
from pathlib import Path

import numpy as np
import torch
import yaml
from common import arguments, members_of
from runs import CPU, ROWS, make, minutes
from split import SLICE, test

from race_calc.data.dataset import read_dataset
from race_calc.evaluate.errors import evaluate_dataset
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.model.hardware import keep_freed_memory
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack

BASE = Path(__file__).parent / "configs" / "3bpa.yaml"
PAPER = {"hidden_irreps": "+".join(f"8x{l}{p}" for l in range(4) for p in "eo"), "l_max": 3, "product_channels": 8}
MODELS = {  # name → changes of the configuration, a section at a time; rows of its table
    "correlation 1": ({"model": {"correlation": 1}}, ("MSE", "MSE ensemble", "DE-E", "DE-JEF", "Laplace")),
    "correlation 2": ({"model": {"correlation": 2}}, ("MSE", "MSE ensemble", "DE-E", "DE-JEF", "Laplace")),
    "both parities, l up to 3": ({"model": PAPER, "members": 2, "training": {"epochs": 8}}, ("DE-JEF",)),  # an epoch takes 9 times as long
}


def base_of(model: str, seed: int, folder: Path) -> Path:
    """The configuration of a model with this seed, written to its folder."""
    content = yaml.safe_load(BASE.read_text())
    for key, value in MODELS[model][0].items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    content["training"]["seed"] = seed
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "base.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def errors(checkpoint, sets: dict) -> dict[str, float]:
    """RMSE of energies and forces in meV and meV/Å."""
    predictor, found = StackPredictor(load_stack(checkpoint, torch.float64, CPU)), {}
    for name, data in sets.items():
        evaluation = evaluate_dataset(predictor, data)
        found |= {f"{name} E": 1e3 * evaluation.energy.rmse, f"{name} F": 1e3 * evaluation.forces.rmse}
    return found


def of_row(row: str, runs: Path, sets: dict) -> list[dict[str, float]]:
    """Errors of every single member, or of the whole."""
    case, which = ROWS[row]
    checkpoint = load_checkpoint(runs / case)
    if which == "whole":
        return [errors(checkpoint, sets)]
    return [errors(one, sets) for one in members_of(checkpoint)]


def line(row: str, found: list[dict[str, float]], cost: float) -> str:
    mean = {key: np.mean([each[key] for each in found]) for key in found[0]}
    cells = [
        f"{mean[f'{name} {kind}']:.1f}" + (f" ({mean[f'{name}, all {kind}']:.1f})" if f"{name}, all {kind}" in mean else "")
        for name in ("id_300K", "ood_600K", "ood_1200K")
        for kind in "EF"
    ]
    return f"| {row} | {' | '.join(cells)} | {cost:.1f} |"


if __name__ == "__main__":
    given = arguments(__doc__, data=".", runs="runs/paper", seeds=1)
    keep_freed_memory()
    data, sets = Path(given.data), test(Path(given.data))
    sets |= {f"{name}, all": read_dataset(data / f"{name}.xyz") for name in SLICE}
    results, lines = {}, []
    for model, (_, rows) in MODELS.items():
        lines += ["", f"**{model}**", "", "| | 300 K E | F | 600 K E | F | 1200 K E | F | CPU minutes |", "|---" * 8 + "|"]
        for row in rows:
            found, cost = [], []
            for seed in range(given.seeds):
                runs = Path(given.runs) / f"{model.replace(' ', '-').replace(',', '')}-seed{seed}"
                base = base_of(model, seed, runs)
                for case in ("mse", ROWS[row][0]) if row == "Laplace" else (ROWS[row][0],):
                    make(case, base, data, runs / case)
                found += of_row(row, runs, sets)
                cost.append(minutes(runs / ROWS[row][0]))
            results[f"{model}, {row}"] = {"errors": found, "cpu_minutes": cost}
            lines.append(line(row, found, float(np.mean(cost))))
            print(lines[-1], flush=True)
    Path(given.runs, "results.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    Path(given.runs, "table.md").write_text("\n".join(lines) + "\n")
