"""What a run must have in common with the training that it goes on with: configuration, references and data, in one hash."""

import hashlib
import json
from pathlib import Path
from typing import Any

from race_calc.data.references import read_isolated_atoms
from race_calc.data.targets import Example
from race_calc.train.config import DataConfig, KeysConfig, TrainConfig
from race_calc.train.labels import label_names

OPTIMISER = "muon 2, ivon 2, swag 1, noise 1"  # a run is resumed only by what started it


def fingerprint(config: TrainConfig, fixed: Any, hashes: str, examples: tuple[Example, ...]) -> str:
    """`fixed`: the references as plain JSON types, or what stands for them; `hashes`: of the data files and of a model that it starts from;
    `examples`: of the training, whose labels beside energy, forces and stress count."""
    run = json.dumps([_told(config), fixed, OPTIMISER], sort_keys=True)
    extra = b"".join(values.tobytes() for example in examples for values in example.extra.values())
    return hashlib.sha256((run + hashes).encode() + extra).hexdigest()


def _told(config: TrainConfig) -> dict[str, Any]:
    """The configuration without keys that say what was so before there were such keys: runs that began then go on."""
    content = config.to_dict()
    if content["data"]["keys"] == KeysConfig().to_dict():
        del content["data"]["keys"]
    low = content["data"]["low_level"]
    if low is not None and low["keys"] == KeysConfig().to_dict():
        del low["keys"]
    if not content["data"]["repeats"]:
        del content["data"]["repeats"]
    if not content["training"]["keep_references"]:
        del content["training"]["keep_references"]
    for key in ("states", "scalars", "targets"):
        if not content["model"][key]:
            del content["model"][key]
    return content


def beside_an_scf(kept: dict[str, Any], data: DataConfig, folder: Path) -> list[Any]:
    """What stands for the references in a fingerprint: an SCF has other last digits elsewhere, its program and the data are the same."""
    file = data.isolated_atoms
    return [kept.get("code"), read_isolated_atoms(folder / file, label_names(data.keys)) if file else None]
