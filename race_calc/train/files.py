"""The files of a training run: an atomic state and a log with one JSON line per epoch."""

import json
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save

from race_calc.data.files import append_durably, write_atomically
from race_calc.posterior.base import Posterior
from race_calc.posterior.state import StackState, Trained

STATE_FILE = "training_state.safetensors"
BASELINE_FILE = "training_baseline.json"  # what an external one gave for a structure
LOG_FILE = "training_log.jsonl"


def save_state(folder: Path, trained: Trained, epoch: int, fingerprint: str, posterior: Posterior) -> None:
    """Save what there is after `epoch` finished epochs; tensors that were collected have the posterior's name before theirs."""
    tensors = trained.state.tensors()
    if trained.collected is not None:
        tensors |= {f"{posterior.name}.{name}": tensor for name, tensor in vars(trained.collected).items()}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    run = {"epoch": epoch, "fingerprint": fingerprint}
    content = save(tensors, metadata={"run": json.dumps(run)})  # one entry: their order in the file is not fixed
    write_atomically(folder / STATE_FILE, content)


def load_state(folder: Path, fingerprint: str, posterior: Posterior, device: torch.device) -> tuple[Trained, int]:
    """What was saved, and the number of finished epochs.

    Raises FileNotFoundError where there is none, ValueError when the file is damaged or belongs to another
    configuration or data set.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: nothing to resume there; start without --resume")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            run = json.loads(file.metadata()["run"])
        if run["fingerprint"] == fingerprint:
            # memory of their own: in the file they lie at any eighth byte, and torch's kernels round differently there
            tensors = {name: tensor.to(device, copy=True) for name, tensor in load_file(path).items()}
            prefix = posterior.name + "."
            collected = {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
            state = StackState(**tensors)
            return Trained(state, posterior.collection(**collected) if posterior.collection else None), int(run["epoch"])
    except (safetensors.SafetensorError, TypeError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete the folder and train again") from error
    raise ValueError(
        f"{folder} was trained with another configuration, other data or another version of its baseline: give another --out, or the same "
        "ones"
    )


def append_log(folder: Path, record: dict) -> None:
    append_durably(folder / LOG_FILE, (json.dumps(record, allow_nan=False) + "\n").encode())


def trim_log(folder: Path, epochs: int) -> None:
    """Drop lines of epochs that are not in the saved state, and a half-written last line."""
    path = folder / LOG_FILE
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["epoch"] <= epochs:
                kept.append(line)
        except (json.JSONDecodeError, KeyError):
            continue
    write_atomically(path, "".join(line + "\n" for line in kept).encode())
