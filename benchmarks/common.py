"""What the benchmark scripts share."""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.io import read

from race_calc import RACECalculator
from race_calc.data.references import References
from race_calc.model.config import ModelConfig
from race_calc.model.heads import initial_offsets
from race_calc.model.parameters import initialise, select_members
from race_calc.model.plan import make_plan
from race_calc.model.race import Race
from race_calc.posterior.checkpoint import Checkpoint, save_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.posterior.stack import StackPosterior
from race_calc.train.config import parse_config
from race_calc.train.finish import finish
from race_calc.train.loop import train
from race_calc.train.prepare import prepare

MODEL = Path(__file__).resolve().parents[1] / "models" / "3bpa-de"


def arguments(description: str, **options) -> argparse.Namespace:
    """Command line with --json and the given options (name=default)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", help="write the results to this file")
    for name, default in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, type=type(default))
    return parser.parse_args()


def report(given: argparse.Namespace, results: dict) -> None:
    for name, value in results.items():
        print(f"{name:44s} {value:.6g}" if isinstance(value, float) else f"{name:44s} {value}")
    if given.json:
        Path(given.json).write_text(json.dumps({"command": vars(given), **results}, indent=2) + "\n")


def start(temperature: float, seed: int) -> Atoms:
    """The shipped start structure of 3BPA with Maxwell-Boltzmann momenta."""
    atoms = read(MODEL / "start.xyz")
    width = np.sqrt(atoms.get_masses() * units.kB * temperature)[:, None]
    atoms.set_momenta(width * np.random.default_rng(seed).standard_normal((len(atoms), 3)))
    return atoms


def interleaved(cases: dict[str, Callable[[], object]], rounds: int, before: int = 2) -> dict[str, float]:
    """Median milliseconds of each case; every round runs each of them once, the rounds `before` do not count."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds + before):
        for name, run in cases.items():
            began = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(values[before:]) for name, values in times.items()}


def untrained(species: tuple[int, ...], members: int, neighbours: float, **settings) -> Checkpoint:
    """A stack of random members: a step takes as long as with trained ones. `settings` of the model."""
    references = References(species, (0.0,) * len(species), 0.0, 1.0)
    plan = make_plan(ModelConfig(**settings), len(species))
    offsets = initial_offsets(plan.outputs, 1e-2, 0.3)
    parameters = initialise(plan, list(range(members)), offsets)
    posterior = "deep-ensemble" if members > 1 else "mve"
    return Checkpoint(Race(plan, species, references.scale, neighbours), references, parameters, posterior)


def calculator_of(checkpoint: Checkpoint, dtype: str) -> RACECalculator:
    """A calculator of a checkpoint that is in no folder."""
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(folder, checkpoint, "random weights\n")
        return RACECalculator(folder, device="cpu", dtype=dtype)


def trained(content: dict, data: Path) -> StackPosterior:
    """The posterior that a configuration (as from YAML) gives, float64 on the CPU; nothing is kept."""
    config, cpu = parse_config(content), torch.device("cpu")
    prepared = prepare(config, data)
    with tempfile.TemporaryDirectory() as folder:
        found = train(config, prepared, Path(folder), cpu, resume=False)
        return load_stack(finish(config, prepared, found, Path(folder), cpu), torch.float64, cpu)


def members_of(checkpoint: Checkpoint) -> list[Checkpoint]:
    """Each member as a model of its own."""
    return [replace(checkpoint, parameters=select_members(checkpoint.parameters, [m]), posterior="mve") for m in range(checkpoint.members)]
