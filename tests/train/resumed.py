"""A run resumed after each of its epochs, compared with the run that was never stopped, file by file."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from small_run import write_run

from race_calc.posterior.base import by_name
from race_calc.train.config import TrainConfig, load_config
from race_calc.train.files import LOG_FILE, STATE_FILE
from race_calc.train.finish import finish
from race_calc.train.loop import train
from race_calc.train.prepare import Prepared, prepare

CPU = torch.device("cpu")


def small_run_of(folder: Path, posterior: str, epochs: int, frames: int, **changes) -> tuple[TrainConfig, Prepared]:
    """Write configuration and data of a small run with this posterior, and prepare it."""
    heads = by_name(posterior).heads
    members = None if posterior == "mve" else 4
    path = write_run(
        folder,
        n=frames,
        posterior=posterior,
        members=members,
        model__head=heads[0] if heads else "joint",
        training__epochs=epochs,
        **changes,
    )
    config = load_config(path)
    return config, prepare(config, folder)


def differing_epochs(config: TrainConfig, prepared: Prepared, folder: Path) -> Iterator[tuple[int, list[str]]]:
    """(epoch, names of the files that differ) for a stop after each epoch but the last."""
    whole, epochs = folder / "whole", config.training.epochs

    def keep(record: dict) -> None:
        if record["kind"] == "epoch" and record["epoch"] < epochs:
            stopped = folder / f"epoch-{record['epoch']}"
            stopped.mkdir()
            for name in (STATE_FILE, LOG_FILE):
                shutil.copy(whole / name, stopped / name)

    finish(config, prepared, train(config, prepared, whole, CPU, False, keep), whole, CPU)
    for epoch in range(1, epochs):
        resumed = folder / f"epoch-{epoch}"
        finish(config, prepared, train(config, prepared, resumed, CPU, True), resumed, CPU)
        yield epoch, sorted(name for name in _names(whole) | _names(resumed) if _content(whole / name) != _content(resumed / name))
        shutil.rmtree(resumed)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _content(path: Path) -> object:
    """Bytes; the log without its times; None where there is no file."""
    if not path.is_file():
        return None
    if path.name == LOG_FILE:
        return [{**json.loads(line), "seconds": None} for line in path.read_text(encoding="utf-8").splitlines()]
    return path.read_bytes()
