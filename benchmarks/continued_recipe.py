"""How a training goes on with a few or with many new structures: the rate, how often it sees the new ones, how many epochs.

    python benchmarks/continued_recipe.py --data FOLDER_WITH_3BPA --runs runs/active [--count 50]

The new structures are 2 x 10 (or 2 x 50) random ones of active_learning.py, seed 0 (its pools, its starting ensemble). Measured on frames
of the pools that seed 0 may not choose: the tests of active_learning.py see nothing of this. `pace_of` and `repeats_of` of
race_calc.train.continued hold what was chosen. Goes on where it was stopped; writes recipe-COUNT.json and recipe-COUNT.md into --runs.
"""

import json
import os
from pathlib import Path

import numpy as np
import yaml
from active_learning import BASE, HOT, chosen, data_of, files, measured, pool_over, start_of, write_choice
from ase.io import read, write
from common import arguments
from runs import counted, trained

from race_calc.model.hardware import keep_freed_memory
from race_calc.train.config import parse_config
from race_calc.train.continued import GOING_ON

DEVELOPMENT = 250  # frames of each pool
FEW = {  # → how many times slower, how often a new one is seen, epochs; None: from the start
    "from the start": None,
    "rate, once": (1, 1, 12),
    "rate / 3, once": (3.2, 1, 12),
    "rate, 5 times": (1, 5, 10),
    "rate / 3, 5 times": (3.2, 5, 10),
    "rate / 8, 5 times": (8, 5, 10),
    "rate / 3, 10 times": (3.2, 10, 9),
    "rate / 8, 10 times": (8, 10, 9),
    "rate / 16, 10 times": (16, 10, 9),
    "rate / 8, 20 times": (8, 20, 7),
}
MANY = {
    "from the start": None,
    "rate / 2, twice, 9 epochs": (2, 2, 9),
    "rate / 2, 4 times, 7 epochs": (2, 4, 7),
    "rate / 3, 4 times, 7 epochs": (3.2, 4, 7),
    "rate / 8, 4 times, 7 epochs": (8, 4, 7),
    "rate / 4, 4 times, 8 epochs": (3.6, 4, 8),
    "rate / 4, 8 times, 6 epochs": (3.6, 8, 6),
    "rate / 5, 8 times, 6 epochs": (5.3, 8, 6),
}
RECIPES = {10: FEW, 50: MANY}


def development(runs: Path, paths: dict[str, Path]) -> dict[str, Path]:
    """Frames of the pools that seed 0 does not choose from, as test files."""
    found = {"test-300": paths["test-300"]}
    for k, temperature in enumerate(HOT):
        path = runs / "data" / f"dev-{temperature}.xyz"
        if not path.exists():
            frames = read(paths[f"pool-{temperature}"], ":")
            rest = np.random.default_rng([0, k]).permutation(len(frames))[len(frames) // 2 :][:DEVELOPMENT]
            write(path, [frames[i] for i in rest])
        found[f"test-{temperature}"] = path
    return found


def run(name: str, count: int, start: Path, runs: Path) -> Path:
    """The model of a recipe."""
    recipe = RECIPES[count][name]
    folder, data = runs / f"recipe-{count}-{list(RECIPES[count]).index(name)}", data_of(f"random-{count}-0")
    content = yaml.safe_load(BASE.read_text()) | {"members": 4, "data": data}
    settings: dict[str, object] = {"seed": 0}
    if recipe is not None:
        slower, repeats, epochs = recipe
        content["data"] = data | {"repeats": [1, repeats]}
        settings |= {**GOING_ON, "start_from": os.path.relpath(start, runs / "data"), "epochs": epochs}
        settings["learning_rate"] = content["training"]["learning_rate"] / slower
    if not (folder / "weights.safetensors").exists():
        config = parse_config(content | {"training": content["training"] | settings})
        counted(folder, lambda: trained(name, config, runs / "data", folder))
    return folder


if __name__ == "__main__":
    given = arguments(__doc__, data=".", runs="runs/active", count=10)
    keep_freed_memory()
    runs = Path(given.runs)
    paths = files(Path(given.data), runs)
    start, tests = start_of(paths, runs), development(runs, paths)
    choice = f"random-{given.count}-0"
    if not (runs / "data" / choice).is_dir():
        pool, frames = pool_over(paths, start)
        write_choice(choice, [frames[i] for i in chosen(pool, "random", given.count, 0)], 0, runs)
    path = runs / f"recipe-{given.count}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    lines = ["| how it goes on | CPU minutes | forces 600 K | 1200 K | over from the start |", "|---|---|---|---|---|"]
    for name in RECIPES[given.count]:
        if name not in results:
            results[name] = measured(run(name, given.count, start, runs), tests)
            path.write_text(json.dumps(results, indent=2) + "\n")
        row, anew = results[name], results["from the start"]
        ratio = " / ".join(f"{row[f'F {t}'] / anew[f'F {t}']:.2f}" for t in HOT)
        lines.append(f"| {name} | {row['cpu_minutes']:.1f} | {row['F 600']:.1f} | {row['F 1200']:.1f} | {ratio} |")
    (runs / f"recipe-{given.count}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
