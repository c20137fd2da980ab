"""The data of a model of several states, or of properties: read, and every label of every surface checked before anything is computed."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from race_calc.data.dataset import Dataset, read_dataset
from race_calc.data.properties import read_properties
from race_calc.data.sources import WITH_FRAMES, as_list, joined, read_each
from race_calc.data.surfaces import check_order, names_of_state, of_scalar, of_state
from race_calc.model.config import ModelConfig
from race_calc.train.config import Files

Parts = list[tuple[str, Dataset]]  # sources with their structures


def read_parts(folder: Path, sources: Files, model: ModelConfig) -> Parts:
    """Energies and forces are those of the first surface. Raises FileNotFoundError or ValueError for data that cannot be used."""
    if model.targets:
        read = partial(read_properties, names=tuple(model.targets))
    else:
        read = partial(read_dataset, names=names_of_state(model.states[0]))
    parts = list(zip(as_list(sources), read_each(folder, sources, read)))
    for source, part in parts:
        for name in model.states:
            of_state(part, name, source)
        for name in model.scalars:
            of_scalar(part, name, source)
    return parts


def check_together(parts: Parts, model: ModelConfig) -> None:
    """What must be the same in all files, those of the validation too: the order of the states, and which scalars have gradients.

    Raises ValueError where it is not.
    """
    files: dict[str, list[Dataset]] = {}
    for source, part in parts:
        found = WITH_FRAMES.fullmatch(source)
        files.setdefault(found[1] if found else source, []).append(part)
    check_order([(file, joined(some)) for file, some in files.items()], model.states)
    for name in model.scalars:
        having = {source: f"gradient_{name}" in part.structures[0].arrays for source, part in parts}
        if len(set(having.values())) > 1:
            lacking = next(source for source, has in having.items() if not has)
            raise ValueError(f"{lacking} has no gradient_{name}, other data have: give it to all frames or to none")


def together(parts: Parts) -> Dataset:
    return joined([part for _, part in parts])


def hash_of_labels(datasets: Sequence[Dataset]) -> str:
    """SHA-256 of the labels of all surfaces as they stand in the files: those of the first are in the hash of the data, too."""
    content = hashlib.sha256()
    for data in datasets:
        content.update(data.energy.tobytes())
        for forces in data.forces:
            content.update(np.ascontiguousarray(forces).tobytes())
    return content.hexdigest()
