"""What each choice of the model and its training gives at equal CPU time: one member on 3BPA, on one thread.

    python benchmarks/ablation.py --data FOLDER_WITH_3BPA --json FILE [--minutes 3] [--only "as it is,batch 2"]

Every case is configs/ablation.yaml with a change. Its epochs are as many as fit the minutes (CPU time, by the time of one
epoch measured before). Errors are those of the 50 validation frames and of the development slices (dev_split.json). Cases that
FILE holds already are left alone.
"""

import tempfile
import time
from pathlib import Path

import torch
import yaml
from ablation_cases import CASES
from common import arguments
from equal_minutes import add, errors, load
from split import development

from race_calc.evaluate.errors import evaluate_dataset
from race_calc.interfaces.calculator import StackPredictor
from race_calc.model.hardware import keep_freed_memory
from race_calc.posterior.stack import load_stack
from race_calc.train.config import parse_config
from race_calc.train.finish import finish
from race_calc.train.loop import train
from race_calc.train.prepare import prepare

BASE = Path(__file__).parent / "configs" / "ablation.yaml"
CPU = torch.device("cpu")


def changed(changes: dict) -> dict:
    """The base with the changes of a case, a section at a time."""
    content = yaml.safe_load(BASE.read_text())
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    return content


def trained(content: dict, epochs: int, data: Path) -> tuple[object, float]:
    """A training of so many epochs and its CPU minutes."""
    content = content | {"training": content["training"] | {"epochs": epochs}}
    config = parse_config(content)
    prepared = prepare(config, data)
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        found = train(config, prepared, Path(folder), CPU, resume=False)
        minutes = (time.process_time() - began) / 60
        return load_stack(finish(config, prepared, found, Path(folder), CPU), torch.float64, CPU), minutes


def measured(changes: dict, minutes: float, data: Path) -> dict:
    """Epochs, CPU minutes and errors of a case."""
    content = changed(changes)
    _, of_one = trained(content, 1, data)
    epochs = max(2, round(minutes / of_one))
    posterior, used = trained(content, epochs, data)
    row = {"epochs": epochs, "minutes": used}
    for name, frames in development(data).items():
        found = evaluate_dataset(StackPredictor(posterior), frames)
        row |= errors(name, found.forces.rmse, found.energy.rmse)
    return row


def line(name: str, row: dict) -> str:
    """A line of the table: forces and energies at 300, 600 and 1200 K."""
    sets = ("validation", "ood_600K", "ood_1200K")
    forces = " / ".join(f"{row[f'{k} force RMSE, meV/Å']:.1f}" for k in sets)
    energies = " / ".join(f"{row[f'{k} energy RMSE, meV']:.1f}" for k in sets)
    return f"| {name} | {row['epochs']} | {forces} | {energies} | {CASES[name].expected} |"


if __name__ == "__main__":
    given = arguments(__doc__, data=".", minutes=3.0, only="")
    if not given.json:
        raise SystemExit("give --json FILE: what is done already is read from it")
    torch.set_num_threads(1)
    keep_freed_memory()
    path = Path(given.json)
    for name in given.only.split(",") if given.only else CASES:
        if name not in load(path):
            add(path, name, measured(CASES[name].changes, given.minutes, Path(given.data)))
        print(line(name, load(path)[name]), flush=True)
