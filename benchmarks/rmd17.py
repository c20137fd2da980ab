"""The table of the paper on rMD17: RACE (MSE), its ensemble, DE-E, DE-JEF at correlation 2, and DE-JEF with cheap labels beside.

    python benchmarks/rmd17.py --data FOLDER_WITH_RMD17 --runs runs/rmd17 [--molecules aspirin,ethanol] [--rows "DE-JEF,two levels"]

Trains what is not there yet (configs/rmd17.yaml), resumes what was interrupted, and prints MAE of energies (meV) and forces (meV/Å)
on the 1,000 test frames of split 01, with CPU minutes of the training. "two levels" adds GFN2-xTB labels of every third training
geometry and of 400 frames of its own MD (cheap.py; needs the extra xtb). Writes `table.md` and `results.json` into --runs.
"""

import json
from pathlib import Path

import numpy as np
import torch
import yaml
from cheap import cheap_labels
from common import arguments, members_of
from runs import CPU, ROWS, make, minutes

from race_calc.data.dataset import read_dataset
from race_calc.evaluate.errors import evaluate_dataset
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.label.sampling import Plan
from race_calc.model.hardware import keep_freed_memory
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack

BASE = Path(__file__).parent / "configs" / "rmd17.yaml"
TWO = "two levels"
HOT = Plan((300.0, 600.0, 900.0), 400)


def base_of(molecule: str, row: str, data: Path, runs: Path) -> Path:
    """The configuration of a molecule, written to its folder; with cheap labels for the row "two levels"."""
    content = yaml.safe_load(BASE.read_text())
    content["data"]["train"] = f"rmd17_{molecule}_01.npz#train"
    if row == TWO:
        low = cheap_labels(f"{data}/{content['data']['train']}", "0:950:3", HOT, runs / molecule / "low.xyz")
        content["data"]["low_level"] = {"file": str(low.absolute())}
    path = runs / molecule / ("two-levels.yaml" if row == TWO else "base.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


def measured(molecule: str, row: str, data: Path, runs: Path) -> dict[str, float]:
    """MAE on the test frames, the mean over the members of a row of single models, and CPU minutes."""
    case, which = ROWS["DE-JEF" if row == TWO else row]
    folder = runs / molecule / ("two-levels" if row == TWO else case)
    make(case, base_of(molecule, row, data, runs), data, folder)
    checkpoint, test = load_checkpoint(folder), read_dataset(f"{data}/rmd17_{molecule}_01.npz#test")
    found = []
    for one in [checkpoint] if which == "whole" else members_of(checkpoint):
        evaluation = evaluate_dataset(StackPredictor(load_stack(one, torch.float64, CPU)), test)
        found.append((1e3 * evaluation.energy.mae, 1e3 * evaluation.forces.mae))
    energy, forces = np.mean(found, axis=0)
    return {"E": float(energy), "F": float(forces), "cpu_minutes": minutes(folder)}


if __name__ == "__main__":
    rows = ",".join(["MSE", "MSE ensemble", "DE-E", "DE-JEF", TWO])
    given = arguments(__doc__, data=".", runs="runs/rmd17", molecules="aspirin,ethanol,malonaldehyde,toluene", rows=rows)
    keep_freed_memory()
    data, runs, molecules = Path(given.data), Path(given.runs), given.molecules.split(",")
    results: dict[str, dict] = {}
    lines = [f"| | {' | '.join(molecules)} | CPU minutes |", "|---" * (2 + len(molecules)) + "|"]
    for row in given.rows.split(","):
        found = {molecule: measured(molecule, row, data, runs) for molecule in molecules}
        results |= {f"{row}, {molecule}": value for molecule, value in found.items()}
        cells = [f"{value['E']:.1f} / {value['F']:.1f}" for value in found.values()]
        costs = [f"{value['cpu_minutes']:.0f}" for value in found.values()]
        lines.append(f"| {row} | {' | '.join(cells)} | {' / '.join(costs)} |")
        print(lines[-1], flush=True)
    (runs / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (runs / "table.md").write_text("\n".join(lines) + "\n")
