"""Recipes `joint` and `detached` at equal budget: the shipped 3BPA configuration with fewer members and epochs.

    python benchmarks/recipes.py --data FOLDER_WITH_3BPA
"""

import tempfile
from pathlib import Path

import torch
import yaml
from common import MODEL, arguments, report

from race_calc.data.dataset import read_dataset
from race_calc.evaluate import evaluate_dataset
from race_calc.memory import keep_freed_memory
from race_calc.posterior.stack import load_stack
from race_calc.train.config import parse_config
from race_calc.train.finish import finish
from race_calc.train.loop import train
from race_calc.train.prepare import prepare

given = arguments(__doc__, data=".", members=2, epochs=12)
keep_freed_memory()
cpu = torch.device("cpu")
results = {}
for recipe in ("detached", "joint"):
    content = yaml.safe_load((MODEL / "train.yaml").read_text())
    content["members"] = given.members
    content["training"] |= {"recipe": recipe, "epochs": given.epochs}
    config = parse_config(content)
    prepared = prepare(config, Path(given.data))
    with tempfile.TemporaryDirectory() as folder:
        state = train(config, prepared, Path(folder), cpu, resume=False)
        posterior = load_stack(finish(config, prepared, state, Path(folder), cpu), torch.float64, cpu)
    for name in ("id_300K", "ood_600K", "ood_1200K"):
        found = evaluate_dataset(posterior, read_dataset(Path(given.data) / f"{name}.xyz"))
        results[f"{recipe} {name} force RMSE, meV/Å"] = 1e3 * found.forces.rmse
        results[f"{recipe} {name} energy RMSE, meV"] = 1e3 * found.energy.rmse
    print({name: round(value, 1) for name, value in results.items() if name.startswith(recipe)}, flush=True)
report(given, results)
