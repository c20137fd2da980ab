"""Trained runs of every posterior on a data set, for the scripts that compare them.

    python benchmarks/runs.py --config benchmarks/configs/3bpa.yaml --data FOLDER_WITH_ACAC --runs runs/acac [--only de-jef,swag]

Each run is the configuration with the changes in CASES; it is resumed when it was interrupted and left alone when it is
finished. POST_HOC are fitted to member 0 of another run.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from common import MODEL, arguments

from race_calc.model.hardware import keep_freed_memory
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.train.config import TrainConfig, parse_config
from race_calc.train.files import STATE_FILE
from race_calc.train.finish import finish
from race_calc.train.fit import Request, fit_posterior
from race_calc.train.loop import train
from race_calc.train.prepare import prepare

CASES = {  # run → changes of the configuration
    "mse": {"model": {"head": "mse"}},
    "de-e": {"model": {"head": "energy"}},
    "de-jef": {},
    "swag": {"posterior": "swag", "members": 16},
    "ivon": {"posterior": "ivon", "members": 16},
    "shallow": {"posterior": "shallow-ensemble", "members": 16},
}
POST_HOC = {  # run → (base, method, mean); the tables have the mean of the draws, as for the other posteriors over all weights
    "laplace": ("mse", "laplace", "draws"),
    "llpr-mse": ("mse", "llpr", None),
    "llpr": ("de-jef", "llpr", None),
}
ROWS = {  # row of a table → (run, single members or the whole)
    "MSE": ("mse", "single"),
    "MSE ensemble": ("mse", "whole"),
    "MVE": ("de-jef", "single"),
    "DE-E": ("de-e", "whole"),
    "DE-JEF": ("de-jef", "whole"),
    "SWAG": ("swag", "whole"),
    "IVON": ("ivon", "whole"),
    "Laplace": ("laplace", "whole"),
    "LLPR on MSE": ("llpr-mse", "whole"),
    "LLPR on MVE": ("llpr", "whole"),
    "shallow": ("shallow", "whole"),
}
CPU = torch.device("cpu")


def configuration(case: str, base: Path, **training):
    """The configuration of a case, with other settings of the training if any are given."""
    content = merged(yaml.safe_load(base.read_text()), CASES[case])
    content["training"] |= training
    return parse_config(content)


def merged(content: dict, changes: dict) -> dict:
    """A configuration with changes of its sections."""
    return content | {key: content[key] | value if isinstance(value, dict) else value for key, value in changes.items()}


def make(case: str, base: Path, data: Path, folder: Path) -> None:
    """Train or fit one run, unless it is finished; its CPU minutes, of all sessions, go to `minutes.json` beside the model."""
    if (folder / "weights.safetensors").exists():
        return
    counted(folder, lambda: _make(case, base, data, folder))


def counted(folder: Path, work: Callable[[], None]) -> None:
    """Do the work; its CPU minutes are added to those of the run."""
    began = time.process_time()
    try:
        work()
    finally:
        write_minutes(folder, minutes(folder) + (time.process_time() - began) / 60)


def minutes(folder: Path) -> float:
    """CPU minutes that a run has taken."""
    path = folder / "minutes.json"
    return json.loads(path.read_text())["cpu_minutes"] if path.exists() else 0.0


def write_minutes(folder: Path, value: float) -> None:
    if folder.exists():
        (folder / "minutes.json").write_text(json.dumps({"cpu_minutes": value}) + "\n")


def _make(case: str, base: Path, data: Path, folder: Path) -> None:
    if case in POST_HOC:
        of, method, mean = POST_HOC[case]
        fit_posterior(load_checkpoint(folder.parent / of), Request(method, mean=mean), data, folder, CPU)
        return
    trained(case, configuration(case, base), data, folder)


def trained(name: str, config: TrainConfig, data: Path, folder: Path) -> None:
    """Train to a finished model, from where an earlier call was interrupted; tells the score of each epoch."""
    prepared = prepare(config, data)
    tell = lambda r: print(name, r["epoch"], r["validation_score"], flush=True) if r["kind"] == "epoch" else None  # noqa: E731
    finish(config, prepared, train(config, prepared, folder, CPU, (folder / STATE_FILE).exists(), tell), folder, CPU)


def finished(name: str, base: Path, data: Path, runs: Path) -> Path:
    """The folder of a model that the configuration `base` makes of the files in `data`, trained where it is not there yet."""
    folder = runs / name
    if not (folder / "weights.safetensors").exists():
        counted(folder, lambda: trained(name, parse_config(yaml.safe_load(base.read_text())), data, folder))
    return folder


if __name__ == "__main__":
    given = arguments(__doc__, config=str(MODEL / "train.yaml"), data=".", runs="runs/posteriors", only="")
    keep_freed_memory()
    for case in given.only.split(",") if given.only else [*CASES, *POST_HOC]:
        make(case, Path(given.config), Path(given.data), Path(given.runs) / case)
        print(f"{case}: {Path(given.runs) / case}", flush=True)
