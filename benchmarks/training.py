"""An epoch of ten stacked members against ten epochs of one member, in the shape of models/3bpa-de; labels are random.

Interleaved: after each stacked epoch one epoch of one member, whose time counts ten times.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
import yaml
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from common import MODEL, arguments, interleaved, report, start

from race_calc.model.hardware import keep_freed_memory
from race_calc.train.config import parse_config
from race_calc.train.loop import train
from race_calc.train.prepare import prepare

given = arguments(__doc__, rounds=3, frames=100)
keep_freed_memory()
cpu = torch.device("cpu")


def labelled(seed: int):
    rng = np.random.default_rng(seed)
    atoms = start(300.0, seed)
    atoms.rattle(0.05, seed=seed)
    atoms.calc = SinglePointCalculator(atoms, energy=float(rng.normal()), forces=rng.normal(size=(len(atoms), 3)))
    return atoms


with tempfile.TemporaryDirectory() as folder:
    write(Path(folder) / "random.xyz", [labelled(seed) for seed in range(given.frames + 1)])
    content = yaml.safe_load((MODEL / "train.yaml").read_text())
    content["data"] = {"train": "random.xyz", "validation": 1}
    content["training"] |= {"epochs": 1, "warmup_epochs": 0}
    prepared = {}
    for members in (10, 1):
        config = parse_config(content | {"members": members, "posterior": "deep-ensemble" if members > 1 else "mve"})
        prepared[members] = (config, prepare(config, Path(folder)))

    def epoch(members: int):
        with tempfile.TemporaryDirectory() as out:
            train(*prepared[members], Path(out), cpu, resume=False)

    times = interleaved({"stacked": lambda: epoch(10), "one": lambda: epoch(1)}, given.rounds)
report(
    given,
    {
        "threads": torch.get_num_threads(),
        "epoch of ten stacked members, s": times["stacked"] / 1e3,
        "epoch of one member, s": times["one"] / 1e3,
        "stacked / ten of one": times["stacked"] / (10 * times["one"]),
    },
)
