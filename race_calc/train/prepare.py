"""From a configuration and its data to what the loop needs: the model, the first weights, the examples."""

import hashlib
import json
import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from race_calc.data.contribution import Baseline, BaselineError
from race_calc.data.dataset import Dataset, check_same_elements, read_dataset
from race_calc.data.graph import average_neighbours, from_atoms
from race_calc.data.hashes import data_hash, geometry_hashes
from race_calc.data.references import References, fit_references, read_isolated_atoms
from race_calc.data.split import Split, make_split
from race_calc.data.targets import Example, examples_of, extra_labels
from race_calc.label.calculated import Calculated
from race_calc.model.baseline import baseline_of, record
from race_calc.model.channels import outputs_of_head
from race_calc.model.heads import initial_offsets
from race_calc.model.parameters import Parameters, initialise, parameter_shapes
from race_calc.model.plan import Plan, make_plan
from race_calc.model.race import Race
from race_calc.posterior.base import Progress, by_name
from race_calc.train.config import TrainConfig
from race_calc.train.levels import with_levels

MOST_PARAMETERS = 300_000_000  # of all members; the state of a training is six times as large: 7 GiB in float32
OPTIMISER = "muon 2, ivon 2, swag 1"  # a run is resumed only by what started it


@dataclass(frozen=True)
class Prepared:
    model: Race
    references: References
    parameters: Parameters
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    split: Split
    data_hash: str
    structures: dict[str, str]  # "train", "validation" → geometry hashes with spaces between
    fingerprint: str  # of configuration, references and data: a resumed run must have the same
    baseline: dict[str, Any]  # what a checkpoint keeps of it
    external: Any  # the calculator of the user that is the baseline, or None
    low: tuple[Example, ...] = ()  # labels of the low level


def prepare(config: TrainConfig, folder: Path, baseline: Any = None, progress: Progress = lambda done, total: None) -> Prepared:
    """Read the data (paths relative to `folder`), fit the references and draw the first weights.

    `baseline`: the calculator of `model.baseline: external`. `progress` is told for how many structures the baseline is computed.

    Raises FileNotFoundError or ValueError for data that is missing or cannot be used, and what the baseline raises.
    """
    outputs = outputs_of_head(config.model.head, config.model.force_covariance)
    labels = [output.label for output in outputs if output.label]
    whole = read_dataset(folder / config.data.train)
    extra_labels(whole, labels, config.data.train)  # names frames as the file has them
    if isinstance(config.data.validation, int):
        split = make_split(len(whole), config.data.validation, config.training.seed, config.data.validation_from)
        train, validation = whole.subset(split.train), whole.subset(split.validation)
        digest = data_hash(whole)
    else:
        split = make_split(len(whole), 0, config.training.seed)
        train, validation = whole, read_dataset(folder / config.data.validation)
        extra_labels(validation, labels, config.data.validation)
        digest = hashlib.sha256((data_hash(train) + data_hash(validation)).encode()).hexdigest()
    check_same_elements(train, validation)
    name, cutoff = config.model.baseline, config.model.cutoff
    added = baseline_of(name, cutoff, baseline, continues=False)
    if added is not None:
        train, validation = (without_baseline(part, added, cutoff, progress) for part in (train, validation))
    references = fit_references(train, _isolated(folder, config.data.isolated_atoms, added, cutoff))
    examples = examples_of(train, references, config.model.cutoff, labels)
    cheap = _low_level(config, folder, train, added, progress)
    low = () if cheap is None else examples_of(cheap.data, cheap.references, cutoff, labels)
    plan = make_plan(config.model, len(references.species))
    check_size(plan, config)
    neighbours = average_neighbours([example.graph for example in examples])
    model = Race(plan, references.species, references.scale, neighbours)
    residual = np.array([example.energy / example.graph.n_atoms**0.5 for example in examples])
    offsets = initial_offsets(plan.outputs, float(np.mean(residual**2)), references.scale**2)
    kept = record(name, added, train.structures)
    # the last digits of an SCF are not the same everywhere: its program and the data stand for what it gives
    file = config.data.isolated_atoms
    scf = isinstance(added, Calculated)
    fixed = [kept.get("code"), read_isolated_atoms(folder / file) if file else None] if scf else references.to_dict()
    run = json.dumps([config.to_dict(), fixed, OPTIMISER], sort_keys=True)
    extra = b"".join(values.tobytes() for example in examples for values in example.extra.values())
    fingerprint = hashlib.sha256((run + digest + ("" if cheap is None else data_hash(cheap.data))).encode() + extra).hexdigest()
    parts = {"train": train, "validation": validation} | ({} if cheap is None else {"low_level": cheap.data})
    first = initialise(plan, member_seeds(config), offsets, config.members if by_name(config.posterior).many_last_layers else None)
    return Prepared(
        model=model,
        references=references,
        parameters=with_levels(first, plan) if low else first,
        train=examples,
        validation=examples_of(validation, references, config.model.cutoff, labels),
        split=split,
        data_hash=digest,
        structures={name: " ".join(geometry_hashes(part)) for name, part in parts.items()},
        fingerprint=fingerprint,
        baseline=kept,
        external=baseline,
        low=low,
    )


@dataclass(frozen=True)
class _Low:
    """Cheap labels less the baseline, and their own reference energies."""

    data: Dataset
    references: References


def _low_level(config: TrainConfig, folder: Path, train: Dataset, baseline: Baseline | None, progress: Progress) -> _Low | None:
    """None without `data.low_level`."""
    settings, cutoff = config.data.low_level, config.model.cutoff
    if settings is None:
        return None
    data = read_dataset(folder / settings.file)
    check_same_elements(train, data, f"{settings.file} (data.low_level)")
    isolated = _isolated(folder, settings.isolated_atoms, baseline, cutoff)
    if baseline is not None:
        data = without_baseline(data, baseline, cutoff, progress)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # energies of the low level are never predicted
        return _Low(data, fit_references(data, isolated))


def check_size(plan: Plan, config: TrainConfig) -> None:
    """Raises ValueError for more numbers than a training can hold."""
    of_one = sum(math.prod(shape) for shape in parameter_shapes(plan).values())
    if of_one * config.trained > MOST_PARAMETERS:
        raise ValueError(
            f"the model has {of_one:.3g} parameters, times {config.trained} that are trained side by side more than {MOST_PARAMETERS:.0e}: "
            "lower model.hidden_irreps, features_dim, radial_hidden or layers, or members"
        )


def member_seeds(config: TrainConfig) -> list[int]:
    """Seeds of the first weights of every model that is trained; a longer list begins with a shorter one, other seeds share none."""
    return [int(seed) for seed in np.random.SeedSequence(config.training.seed).generate_state(config.trained, np.uint64) >> 1]


def without_baseline(dataset: Dataset, baseline: Baseline, cutoff: float, progress: Progress = lambda done, total: None) -> Dataset:
    """The labels less what every prediction adds. Raises BaselineError naming the structure for which there is nothing."""
    known = []
    for i, atoms in enumerate(dataset.structures):
        try:
            known.append(baseline(from_atoms(atoms, cutoff)))
        except BaselineError as error:
            raise BaselineError(f"structure {i} of {len(dataset)}: {error}") from error
        progress(i + 1, len(dataset))
    return replace(
        dataset,
        energy=dataset.energy - [k.atom_energy.sum() for k in known],
        forces=tuple(forces - k.forces for forces, k in zip(dataset.forces, known)),
        stress=tuple(
            None if stress is None else stress - k.virial[0] / atoms.get_volume()
            for stress, k, atoms in zip(dataset.stress, known, dataset.structures)
        ),
    )


def _isolated(folder: Path, file: str | None, baseline: Baseline | None, cutoff: float) -> dict[int, float] | None:
    """Energies of isolated atoms less those of the baseline, eV; None without a file."""
    if file is None:
        return None
    energies = read_isolated_atoms(folder / file)
    if baseline is None:
        return energies
    alone = {z: from_atoms(Atoms([z], [[0.0, 0.0, 0.0]]), cutoff) for z in energies}
    return {z: energy - float(baseline(alone[z]).atom_energy.sum()) for z, energy in energies.items()}
