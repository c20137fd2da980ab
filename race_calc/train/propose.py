"""A configuration for data that are new: proposed from what is in them, and what the training would take, measured."""

import json
import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import yaml
from ase.data import chemical_symbols

from race_calc.data.dataset import Dataset
from race_calc.data.label_names import LABELS, LabelNames
from race_calc.train.config import parse_config
from race_calc.train.loop import train
from race_calc.train.prepare import prepare

STEPS = 18_000  # of a training whose members were at their end, models/3bpa-de
ATOMS = 150  # of a batch
FEW = 60  # structures: less than that and little is held back
TRIED = 6  # batches of the measurement


@dataclass(frozen=True)
class Facts:
    """What data are like: structures, atoms of each (smallest, mean, largest), elements, whether all fill space, whether some have a
    stress, how many structures are of the first composition, and whether there is one frame of one atom for each element."""

    structures: int
    atoms: tuple[int, float, int]
    elements: tuple[str, ...]
    periodic: bool
    stress: bool
    alike: int
    isolated: bool


def facts_of(dataset: Dataset) -> Facts:
    sizes = [len(atoms) for atoms in dataset.structures]
    formulas = [atoms.get_chemical_formula() for atoms in dataset.structures]
    return Facts(
        len(dataset),
        (min(sizes), float(np.mean(sizes)), max(sizes)),
        tuple(chemical_symbols[z] for z in dataset.elements),
        all(atoms.pbc.all() for atoms in dataset.structures),
        any(stress is not None for stress in dataset.stress),
        formulas.count(formulas[0]),
        sorted(int(atoms.numbers[0]) for atoms in dataset.structures if len(atoms) == 1) == sorted(dataset.elements),
    )


@dataclass(frozen=True)
class Proposal:
    validation: int
    validation_from: str
    layers: int
    head: str
    members: int
    epochs: int
    batch_size: int


def propose(facts: Facts) -> Proposal:
    """Raises ValueError for fewer than 10 structures."""
    if facts.structures < 10:
        raise ValueError(f"{facts.structures} structures are too few to learn from and to validate with: give at least 10")
    validation = min(max(facts.structures // 10, min(20, facts.structures // 3)), 200)
    batch = int(np.clip(round(ATOMS / facts.atoms[1]), 1, 16))
    epochs = int(np.clip(round(STEPS * batch / (facts.structures - validation), -1), 20, 400))
    return Proposal(
        validation=validation,
        validation_from="last" if facts.alike == facts.structures else "random",  # of one system: an MD run, whose end is the newest
        layers=2 if facts.periodic else 3,
        head="joint-stress" if facts.stress else "joint",
        members=10 if facts.structures < 3000 else 5,
        epochs=epochs,
        batch_size=batch,
    )


def text_of(facts: Facts, chosen: Proposal, file: str, names: LabelNames = LABELS) -> str:
    """YAML with the reasons beside it; `names`: of the labels in the file."""
    smallest, mean, largest = facts.atoms
    sizes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    steps = chosen.epochs * math.ceil((facts.structures - chosen.validation) / chosen.batch_size)
    lines = [
        f"# {facts.structures} structures of {sizes} atoms: {', '.join(facts.elements)}; {'with' if facts.stress else 'without'} stress.",
        "# Train it:  race-calc train THIS_FILE --out FOLDER      All keys: race-calc schema, docs/model.md",
        "data:",
        f"  train: {json.dumps(file, ensure_ascii=False)}",
        f"  validation: {chosen.validation}             # structures that choose the best weights and calibrate the spreads",
        f"  validation_from: {chosen.validation_from}",
        *([] if names == LABELS else [f"  keys: {json.dumps(vars(names))}  # names of the labels in the file"]),
        f"  isolated_atoms: {json.dumps(file, ensure_ascii=False)}  # its frames of one atom"
        if facts.isolated
        else "  # isolated_atoms: atoms.xyz  # one frame of each element with its energy: give it where compositions differ",
        "model:",
        "  hidden_irreps: 32x0e+32x1o+16x2e",
        "  l_max: 2",
        f"  layers: {chosen.layers}                  # reach of an atom: layers × cutoff",
        "  features_dim: 32",
        "  radial_hidden: [16]",
        "  correlation: 2             # products of neighbours: without them half as accurate",
        "  product_channels: 32",
        "  cutoff: 5.0                # Å",
        "  baseline: zbl              # repulsion of nuclei that come close",
        f"  head: {chosen.head}",
        "posterior: deep-ensemble",
        f"members: {chosen.members}                  # their spread is what the model does not know; 4 for a first try",
        "training:",
        "  recipe: joint",
        f"  epochs: {chosen.epochs}                # some {steps:,} steps",
        f"  batch_size: {chosen.batch_size}              # structures, some {round(chosen.batch_size * mean)} atoms",
        "  learning_rate: 0.012",
        "  schedule: cosine",
        "  warmup_epochs: 1",
        "  ema_decay: 0.99",
        "  clip_norm: 10.0",
        f"  energy_weight: {max(5, round(0.8 * mean)) if facts.periodic else 5}",
        "  force_weight: 100.0",
        "  seed: 0",
        "  dtype: float32",
    ]
    return "\n".join(lines) + "\n"


def hours(text: str, folder: Path) -> float:
    """Of the whole training on this machine, from some of its batches. text: the configuration; folder: of the data.

    Raises what `prepare` and `train` raise.
    """
    config = parse_config(yaml.safe_load(text))
    prepared = prepare(config, folder)
    some = TRIED * config.training.batch_size
    short = replace(prepared, train=prepared.train[:some], validation=prepared.validation[:1])
    once = config.model_copy(update={"training": config.training.model_copy(update={"epochs": 2})})
    epochs: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        train(
            once, short, run, torch.device("cpu"), False, lambda told: epochs.append(told["seconds"]) if told["kind"] == "epoch" else None
        )
    return epochs[-1] * len(prepared.train) / len(short.train) * config.training.epochs / 3600  # the first one warms up
