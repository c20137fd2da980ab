"""A training that goes on from a finished model with more labels: the data of both, written to the folder of the new run.

Old structures stay in the part that they were in, so that what was held back once is never trained on. Of the new ones, sorted by the
size of their forces, one of every ten goes to the validation and one to a calibration set, drawn at random: both see all sizes. The
reference energies stay those of the model: with others its energies would be off at the start.

A training from the start ends at a small learning rate; at its first rate the model would forget, the more the fewer structures are new.
How much slower a training goes on, and how often it sees the new structures where they are few, was chosen by
benchmarks/continued_recipe.py (docs/selection.md).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from race_calc.data.dataset import Dataset, check_same_elements, dataset_from_atoms, read_dataset, read_structures
from race_calc.data.extxyz import as_extxyz
from race_calc.data.files import write_atomically
from race_calc.data.hashes import geometry_hash
from race_calc.data.label_names import LabelNames, NamesOfNew, or_ase
from race_calc.data.sources import as_list
from race_calc.posterior.base import by_name
from race_calc.posterior.checkpoint import WEIGHTS, Checkpoint
from race_calc.train.config import TrainConfig, load_config, parse_config
from race_calc.train.files import STATE_FILE
from race_calc.train.labels import LabelledData, label_names, read_labelled

DATA, CALIBRATION, CONFIG = "data", "calibration.xyz", "train.yaml"
SHARE = 10  # of so many new structures one validates and one calibrates
SHORTER = 0.24  # of the time of a training from the start
GENTLER = 0.64  # times the root of the share of new structures: this part of the learning rate
FEW = 0.6  # as many old structures to each view of a new one in an epoch
GOING_ON = {"keep_references": True, "keep": "last"}  # few structures validate: their best epoch may be one of large steps
MOST_VIEWS = 20  # a new structure is not seen more often


@dataclass(frozen=True)
class Continued:
    """The configuration; the structures that are new; how many each part has; how many were known already, or occurred twice."""

    config: TrainConfig
    new: Dataset
    parts: dict[str, int]
    again: int


def continued(
    checkpoint: Checkpoint, model: Path, added: Sequence[Path], data: Path | None, out: Path, epochs: int | None = None
) -> Continued:
    """Write the data and the configuration of a training that goes on from `model`, the folder of the checkpoint, to `out`.

    `data`: the folder that the paths of its training are relative to; None: its own, of a model that was continued before. A folder
    in which no training has begun, as after a kill, is written anew.

    Raises FileExistsError where `out` holds a run or a model, ValueError for a model that cannot go on, for data other than those of its
    training and where nothing is new.
    """
    if has_begun(out) or (out / WEIGHTS).exists():
        raise FileExistsError(f"{out} holds a run: add --resume to go on with it, or give another --out")
    before, old = training_data(checkpoint, model, data)
    names = label_names(before.data.keys)
    held = frames_of(read_dataset(model / DATA / CALIBRATION)) if (model / DATA / CALIBRATION).is_file() else []
    sets = {str(path): read_dataset(path, names=or_ase(names, NamesOfNew)) for path in added}
    for source, dataset in sets.items():
        check_same_elements(old.train, dataset, source)
    new = [frame for dataset in sets.values() for frame in frames_of(dataset)]
    parts = {"train": frames_of(old.train), "new": [], "validation": frames_of(old.validation), "calibration": held}
    fresh = _not_known(new, [frame for frames in parts.values() for frame in frames])
    if not fresh:
        raise ValueError(f"all {len(new)} structures of {', '.join(sets)} are known already: nothing to learn")
    for frame, part in zip(sorted(fresh, key=_size), _shares(len(fresh), before.training.seed, len(old.train))):
        parts[part].append(frame)
    for frame in (frame for frames in parts.values() for frame in frames):
        _name(frame, names)
    sizes = len(parts["train"]), len(parts["new"])
    repeats = {"train": 1, "new": repeats_of(*sizes)} if parts["new"] else {"train": 1}
    pace = pace_of(before, sizes, sizes_of(before, data or model, len(old.train)), epochs)
    _write(out, parts, _content(before, os.path.relpath(model.resolve(), out.resolve()), pace, repeats))
    counts = {name: len(frames) for name, frames in parts.items()}
    counts["train"] += counts.pop("new")
    return Continued(load_config(out / CONFIG), dataset_from_atoms(fresh), counts, len(new) - len(fresh))


def training_data(checkpoint: Checkpoint, model: Path, data: Path | None) -> tuple[TrainConfig, LabelledData]:
    """The configuration of the training of a model that can go on, and what it was trained on; `data` as for `continued`.

    Raises ValueError for a model that cannot go on, and for data other than those of its training.
    """
    before = _configuration(checkpoint)
    if data is None and not (model / DATA).is_dir():
        raise ValueError(f"{model} does not hold the data of its training: give --data FOLDER, which its paths are relative to")
    folder = data if data is not None else model
    found = read_labelled(before, folder, [])
    if found.hash != checkpoint.data.get("sha256"):
        raise ValueError(f"the data in {folder} are not those that the model was trained on: their SHA-256 differs; give --data FOLDER")
    return before, found


def has_begun(out: Path) -> bool:
    """Is there a training in the folder that can be resumed?"""
    return (out / CONFIG).exists() and (out / STATE_FILE).exists()


def _shares(n: int, seed: int, known: int = 0) -> list[str]:
    """Which part each of n sorted structures goes to: new ones are those to train on; drawn anew for each number of known ones."""
    rng, found = np.random.default_rng([seed, n, known]), []
    for _ in range(-(-n // SHARE)):
        block = ["new"] * SHARE
        held = rng.choice(SHARE, 2, replace=False)
        block[held[0]], block[held[1]] = "validation", "calibration"
        found += block
    return found[:n]


def repeats_of(old: int, new: int) -> int:
    """How often each new structure is seen in an epoch."""
    return min(max(round(old / (FEW * new)), 1), MOST_VIEWS) if new else 1


def gentler(old: int, new: int) -> float:
    """Part of the learning rate of a training from the start."""
    return GENTLER * (max(new, 1) / (old + max(new, 1))) ** 0.5


def shorter(old: int, new: int) -> float:
    """Part of the epochs of a training from the start, so that it takes SHORTER times its time."""
    return SHORTER * (old + new) / (old + repeats_of(old, new) * new)


def pace_of(
    before: TrainConfig, sizes: tuple[int, int], earlier: tuple[int, int] | None = None, epochs: int | None = None
) -> dict[str, Any]:
    """The changes of the settings of a training that goes on with so many old and new structures. `epochs`: None for the default.

    earlier: those numbers of the training before, where that one went on, too: its settings have been changed for them.
    """
    settings = before.training
    parts = [shorter(*sizes), gentler(*sizes)]
    if earlier is not None:
        parts = [parts[0] / shorter(*earlier), parts[1] / gentler(*earlier)]
    number = epochs or max(round(settings.epochs * parts[0]), 1)
    return {"epochs": number, "warmup_epochs": min(settings.warmup_epochs, number // 2), "learning_rate": settings.learning_rate * parts[1]}


def sizes_of(before: TrainConfig, folder: Path, trained: int) -> tuple[int, int] | None:
    """How many of the structures of a training were old and new; None where it began from the start. `folder`: of its data."""
    if not before.data.repeats:
        return None
    sources = as_list(before.data.train)
    new = len(read_structures(folder / sources[1])) if len(sources) > 1 else 0
    return trained - new, new


def _write(out: Path, parts: dict[str, list[Atoms]], content: dict[str, Any]) -> None:
    """The configuration last: without it there is no run."""
    (out / DATA).mkdir(parents=True, exist_ok=True)
    (out / CONFIG).unlink(missing_ok=True)
    for name, frames in parts.items():
        path = out / DATA / f"{name}.xyz"
        path.unlink(missing_ok=True)  # of an attempt before
        if frames:
            write_atomically(path, as_extxyz(frames))
    write_atomically(out / CONFIG, yaml.safe_dump(content, sort_keys=False).encode())


def _configuration(checkpoint: Checkpoint) -> TrainConfig:
    """Of the training of the model. Raises ValueError where it cannot go on."""
    if "config" not in checkpoint.training:
        raise ValueError("the model does not say how it was trained: only models of `race-calc train` can go on")
    config = parse_config(checkpoint.training["config"], "the model's configuration")
    if not by_name(config.posterior).independent:
        raise ValueError(f"the members of a {config.posterior} are no models of their own: continue the model that it was fitted to")
    if config.model.has_surfaces or config.data.low_level is not None:
        raise ValueError("models of several states, of properties and of two levels of labels cannot go on with more labels: train anew")
    if config.model.baseline == "external":
        raise ValueError("a model with an external baseline cannot go on with more labels: train anew")
    return config


def _content(before: TrainConfig, start: str, pace: dict[str, Any], repeats: dict[str, int]) -> dict[str, Any]:
    """`repeats`: part that is trained on → how often it is seen in an epoch."""
    content = before.to_dict()
    changes = pace | GOING_ON | {"start_from": start}
    train, validation = [f"{DATA}/{name}.xyz" for name in repeats], f"{DATA}/validation.xyz"
    data = {"train": train, "validation": validation, "keys": content["data"]["keys"], "repeats": list(repeats.values())}
    return content | {"data": data, "training": content["training"] | changes}


def frames_of(dataset: Dataset) -> list[Atoms]:
    """Structures with their labels as ASE has them."""
    found = []
    for atoms, energy, forces, stress in zip(dataset.structures, dataset.energy, dataset.forces, dataset.stress):
        frame = atoms.copy()
        results = {"energy": float(energy), "forces": forces} | ({} if stress is None else {"stress": stress})
        frame.calc = SinglePointCalculator(frame, **results)
        found.append(frame)
    return found


def _name(frame: Atoms, names: LabelNames) -> None:
    """Its results also under the names that the training reads, where these are not ASE's, in place of what is there."""
    for label, name in vars(names).items():
        if name != label:
            frame.info.pop(name, None)
            frame.arrays.pop(name, None)
            if label in frame.calc.results:
                (frame.arrays if label == "forces" else frame.info)[name] = frame.calc.results[label]


def _not_known(new: Sequence[Atoms], known: Sequence[Atoms]) -> list[Atoms]:
    """Each once, by the hash of its geometry."""
    taken, found = set(map(geometry_hash, known)), []
    for frame in new:
        if (told := geometry_hash(frame)) not in taken:
            taken.add(told)
            found.append(frame)
    return found


def _size(frame: Atoms) -> float:
    return float(np.sqrt((frame.get_forces() ** 2).mean()))
