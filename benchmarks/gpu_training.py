"""Ten members in the paper's irreps (both parities, l ≤ 3) on a GPU: what a step takes, and how far some minutes come on 3BPA.

    python benchmarks/gpu_training.py --data FOLDER_WITH_3BPA --runs runs/gpu [--minutes 8.5] [--batch 20] [--device cuda]

Measures a step, trains as many epochs as fit into the minutes, and prints a line of the table of paper_table.py.
"""

import time
from pathlib import Path

import torch
import yaml
from common import arguments
from paper_table import BASE, PAPER, errors, line
from split import SLICE, test

from race_calc.data.dataset import read_dataset
from race_calc.model.hardware import torch_device
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.state import flatten
from race_calc.train.config import TrainConfig, parse_config
from race_calc.train.context import context_of
from race_calc.train.finish import finish
from race_calc.train.loop import Part, one_step, train
from race_calc.train.prepare import Prepared, prepare

SPARE = 15.0  # seconds for the thresholds and references at the end


def configuration(batch: int, epochs: int = 1) -> TrainConfig:
    content = yaml.safe_load(BASE.read_text())
    content["model"] |= PAPER
    content["training"] |= {"batch_size": batch, "epochs": epochs}
    return parse_config(content | {"members": 10})


def seconds_of_a_step(config: TrainConfig, prepared: Prepared, device: torch.device, steps: int = 10) -> float:
    context, size = context_of(config, prepared, device), config.training.batch_size
    weights = flatten(list(prepared.parameters.values())).to(context.dtype).to(device)
    state, draws = context.posterior.initial_state(weights), weights.new_empty(len(weights), 0)

    def step(k: int) -> None:
        chosen = [context.train[(k * size + i) % len(context.train)] for i in range(size)]
        one_step(context, [Part(*context.batch(chosen, context.dtype))], 1e-3, state, draws)[0].cpu()

    for k in range(3):
        step(k)
    began = time.perf_counter()
    for k in range(steps):
        step(k)
    return (time.perf_counter() - began) / steps


if __name__ == "__main__":
    given = arguments(__doc__, data=".", runs="runs/gpu", minutes=8.5, batch=20, device="cuda")
    data, folder, device, began = Path(given.data), Path(given.runs), torch_device(given.device), time.perf_counter()
    config = configuration(given.batch)
    prepared = prepare(config, data)
    each = seconds_of_a_step(config, prepared, device)
    steps = -(-len(prepared.train) // given.batch)
    left = 60 * given.minutes - (time.perf_counter() - began) - SPARE
    config = configuration(given.batch, max(2, int(left / (each * (steps + 1) + 0.5))))  # a validation takes about as long as a step
    print(f"a step: {each:.3f} s; {config.training.epochs} epochs", flush=True)
    prepared = prepare(config, data)
    finish(config, prepared, train(config, prepared, folder, device, resume=False), folder, device)
    took = (time.perf_counter() - began) / 60
    sets = test(data) | {f"{name}, all": read_dataset(data / f"{name}.xyz") for name in SLICE}
    print(line("DE-JEF", [errors(load_checkpoint(folder), sets)], took))
