"""The labels of a training: read, split, and less what every prediction adds."""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from race_calc.data.contribution import Baseline, BaselineError, Contribution
from race_calc.data.dataset import Dataset, check_same_elements, read_dataset
from race_calc.data.graph import from_atoms
from race_calc.data.hashes import data_hash
from race_calc.data.label_names import LABELS, LabelNames
from race_calc.data.references import References, fit_references, read_isolated_atoms
from race_calc.data.sources import joined, read_each, read_sources, told
from race_calc.data.split import Split, make_split
from race_calc.data.targets import extra_labels
from race_calc.label.calculated import Calculated, check_neutral
from race_calc.posterior.given import Progress
from race_calc.train.config import DataConfig, KeysConfig, LowLevelConfig, TrainConfig
from race_calc.train.surface_labels import check_together, read_parts, together


@dataclass(frozen=True)
class LabelledData:
    """What `data` of a configuration names; `hash`: of all of it, as it is in the files; `repeats`: how often each structure of `train` is
    seen in an epoch, () for once; `sources`: of `train` and `validation`, as the configuration names them."""

    train: Dataset
    validation: Dataset
    split: Split
    hash: str
    repeats: tuple[int, ...] = ()
    sources: tuple[str, str] = ("data.train", "data.validation")

    def train_name(self, i: int) -> str:
        """What messages call a structure to train on."""
        return f"frame {self.split.train[i]} of {self.sources[0]}"

    def validation_name(self, i: int) -> str:
        return f"frame {(self.split.validation or range(len(self.validation)))[i]} of {self.sources[1]}"


@dataclass(frozen=True)
class LowLevel:
    """Cheap labels less the baseline, their own reference energies, and the hash of the file's content."""

    data: Dataset
    references: References
    hash: str


def read_labelled(settings: TrainConfig, folder: Path, extra: list[str]) -> LabelledData:
    """`extra`: labels besides energies, forces and stress. Of several surfaces, the first has the energies and forces.

    Raises FileNotFoundError or ValueError for data that is missing or cannot be used.
    """
    config, seed, model = settings.data, settings.training.seed, settings.model
    files = [config.train] if isinstance(config.validation, int) else [config.train, config.validation]
    if model.has_surfaces:
        named = [read_parts(folder, sources, model) for sources in files]
        check_together([part for some in named for part in some], model)
        sets, sizes = [together(some) for some in named], [len(part) for _, part in named[0]]
    else:
        parts = [read_each(folder, sources, partial(read_dataset, names=label_names(config.keys))) for sources in files]
        sets, sizes = [joined(some) for some in parts], [len(part) for part in parts[0]]
    for data, sources in zip(sets, files):
        extra_labels(data, extra, told(sources))  # frames are counted over all sources
    whole = sets[0]
    if isinstance(config.validation, int):
        split = make_split(len(whole), config.validation, seed, config.validation_from)
        found = LabelledData(whole.subset(split.train), whole.subset(split.validation), split, data_hash(whole))
    else:
        digest = hashlib.sha256((data_hash(whole) + data_hash(sets[1])).encode()).hexdigest()
        found = LabelledData(whole, sets[1], make_split(len(whole), 0, seed), digest)
    found = replace(found, sources=(told(files[0]), told(files[-1])))
    check_same_elements(found.train, found.validation)
    if config.repeats:
        whole_file = np.repeat(config.repeats, sizes)
        found = replace(found, repeats=tuple(whole_file[list(found.split.train)].tolist()))
    return found


def label_names(keys: KeysConfig) -> LabelNames:
    return LabelNames(**keys.model_dump())


def read_low_level(config: DataConfig, folder: Path, train: Dataset, extra: list[str]) -> Dataset | None:
    """The cheap labels as they are in the files; None without `data.low_level`."""
    settings = config.low_level
    if settings is None:
        return None
    data = read_sources(folder, settings.file, label_names(settings.keys))
    extra_labels(data, extra, told(settings.file))
    check_same_elements(train, data, f"{told(settings.file)} (data.low_level)")
    return data


def low_level_of(
    settings: LowLevelConfig, folder: Path, data: Dataset, baseline: Baseline | None, cutoff: float, progress: Progress
) -> LowLevel:
    """What is learned of the cheap labels `data`."""
    names, file = label_names(settings.keys), settings.isolated_atoms
    isolated = isolated_energies(folder, file, data.elements, baseline, cutoff, names)
    rest = data if baseline is None else less(data, contributions(data, baseline, cutoff, low_level_name(settings), progress))
    atoms = "" if file is None else hash_of_energies(read_isolated_atoms(folder / file, names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # energies of the low level are never predicted
        return LowLevel(rest, fit_references(rest, isolated), data_hash(data) + atoms)


def low_level_name(settings: LowLevelConfig) -> Callable[[int], str]:
    """What messages call a structure of the cheap labels."""
    return lambda i: f"frame {i} of {told(settings.file)} (data.low_level)"


def hash_of_energies(energies: dict[int, float]) -> str:
    """sha256 (hex) of the energies of isolated atoms."""
    return hashlib.sha256(repr(sorted(energies.items())).encode()).hexdigest()


def without_baseline(dataset: Dataset, baseline: Baseline, cutoff: float) -> Dataset:
    """The labels less what every prediction adds; raises what `contributions` raises."""
    return less(dataset, contributions(dataset, baseline, cutoff))


def contributions(
    dataset: Dataset,
    baseline: Baseline,
    cutoff: float,
    name_of: Callable[[int], str] = "structure {}".format,
    progress: Progress = lambda done, total: None,
) -> list[Contribution]:
    """What every prediction adds, for each structure; `name_of`: what messages call one.

    Raises BaselineError naming the structure for which there is nothing: where the baseline fails, where it has no stress and the
    label has, and for a structure that it would take for a neutral one; ValueError for one that no graph can be made of.
    """
    known = []
    for i, atoms in enumerate(dataset.structures):
        try:
            if isinstance(baseline, Calculated):
                check_neutral(atoms)
            known.append(baseline(from_atoms(atoms, cutoff)))
            if dataset.stress[i] is not None and np.isnan(known[-1].virial).any():
                raise BaselineError("it has a stress, the baseline has none (or leave the stresses out)")
        except BaselineError as error:
            raise BaselineError(f"{name_of(i)}: {error}; leave that frame out, or take another model.baseline") from error
        except ValueError as error:
            raise ValueError(f"{name_of(i)}: {error}") from error
        progress(i + 1, len(dataset))
    return known


def less(dataset: Dataset, known: Sequence[Contribution]) -> Dataset:
    return replace(
        dataset,
        energy=dataset.energy - [k.atom_energy.sum() for k in known],
        forces=tuple(forces - k.forces for forces, k in zip(dataset.forces, known)),
        stress=tuple(
            None if stress is None else stress - k.virial[0] / atoms.get_volume()
            for stress, k, atoms in zip(dataset.stress, known, dataset.structures)
        ),
    )


def isolated_energies(
    folder: Path, file: str | None, elements: tuple[int, ...], baseline: Baseline | None, cutoff: float, names: LabelNames = LABELS
) -> dict[int, float] | None:
    """Energies of isolated atoms of these elements less those of the baseline, eV; None without a file."""
    if file is None:
        return None
    energies = read_isolated_atoms(folder / file, names)
    if baseline is None:
        return energies
    for z in set(energies) & set(elements):
        try:
            energies[z] -= float(baseline(from_atoms(Atoms([z], [[0.0, 0.0, 0.0]]), cutoff)).atom_energy.sum())
        except BaselineError as error:
            raise BaselineError(f"an isolated atom of {chemical_symbols[z]} ({file}): {error}") from error
    return energies
