"""From a configuration and its data to what the loop needs: the model, the first weights, the examples."""

import hashlib
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from race_calc.data.contribution import Baseline
from race_calc.data.dataset import Dataset
from race_calc.data.graph import average_neighbours
from race_calc.data.hashes import geometry_hashes
from race_calc.data.references import References, fit_references
from race_calc.data.split import Split
from race_calc.data.targets import Example, examples_of
from race_calc.label.calculated import Calculated
from race_calc.label.methods import doubts
from race_calc.model.baseline import baseline_of, record
from race_calc.model.channels import outputs_of_head
from race_calc.model.parameters import Parameters, initialise, parameter_shapes
from race_calc.model.plan import Plan, make_plan
from race_calc.model.race import Race
from race_calc.model.surfaces import Constants, plain
from race_calc.posterior.base import by_name
from race_calc.posterior.checkpoint import Checkpoint
from race_calc.posterior.given import Progress
from race_calc.train.config import TrainConfig
from race_calc.train.data_doubts import warn_of_copies, warn_of_outliers
from race_calc.train.fingerprint import beside_an_scf, fingerprint
from race_calc.train.labels import (
    LabelledData,
    LowLevel,
    contributions,
    isolated_energies,
    label_names,
    less,
    low_level_name,
    low_level_of,
    read_labelled,
    read_low_level,
)
from race_calc.train.levels import with_levels
from race_calc.train.start import first_weights, kept_references, same_constants, start_of
from race_calc.train.stress import stress_weight
from race_calc.train.surface_labels import hash_of_labels
from race_calc.train.surfaces import constants_of, datasets_of, first_offsets, less_known, with_surfaces

MOST_PARAMETERS = 300_000_000  # of all members; the state of a training is six times as large: 7 GiB in float32


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
    stress_weight: float = 0.0  # that of the configuration or, left out there, its default for these labels
    held: Dataset | None = None  # the validation structures with their labels as they are in the files
    surfaces: tuple[Constants, ...] = ()  # of a model of several
    repeats: tuple[int, ...] = ()  # how often each of `train` is seen in an epoch; () for once

    @property
    def models(self) -> tuple[Race, ...]:
        """Of each surface alone."""
        scales = [known.references.scale for known in self.surfaces] or [self.references.scale]
        return tuple(plain(self.model, k, scale) for k, scale in enumerate(scales))


def prepare(
    config: TrainConfig,
    folder: Path,
    baseline: Any = None,
    progress: Progress = lambda done, total: None,
    references: References | None = None,
) -> Prepared:
    """Read the data (paths relative to `folder`), fit the references and draw the first weights.

    `baseline`: the calculator of `model.baseline: external`. `progress` is told for how many structures the baseline is computed.
    `references`: in place of those of the configuration, of a model that has others.

    Raises FileNotFoundError or ValueError for data that is missing or cannot be used, and what the baseline raises.
    """
    labels = [output.label for output in outputs_of_head(config.model.head, config.model.force_covariance) if output.label]
    data = read_labelled(config, folder, labels)
    added = baseline_of(config.model.baseline, config.model.cutoff, baseline, continues=False)
    plan = make_plan(config.model, len(data.train.elements))
    check_size(plan, config)
    start = start_of(config, folder, data.train.elements, added)
    learned = _learned(config, folder, data, labels, added, progress, references)
    examples, cheap, low = learned.train, learned.cheap, learned.low
    model, references = _model(plan, examples, learned.references, start)
    config = with_stress_weight(config, stress_weight(config, examples, low))
    kept = record(config.model.baseline, added, data.train.structures)
    fixed = beside_an_scf(kept, config.data, folder) if isinstance(added, Calculated) else references.to_dict()
    beside = learned.labels_hash + ("" if cheap is None else cheap.hash) + ("" if start is None else start[1])
    parts = {"train": data.train, "validation": data.validation} | ({} if cheap is None else {"low_level": cheap.data})
    hashes = {name: " ".join(geometry_hashes(part)) for name, part in parts.items()}
    warn_of_copies(hashes)
    warn_of_outliers(data.train, data.train_name)
    warn_of_outliers(data.validation, data.validation_name)
    first = _first(config, model.plan, examples, [references.scale, *(known.references.scale for known in learned.surfaces[1:])], start)
    return Prepared(
        model=model,
        references=references,
        parameters=with_levels(first, model.plan) if low else first,
        train=examples,
        validation=learned.validation,
        split=data.split,
        data_hash=hashlib.sha256((data.hash + learned.labels_hash).encode()).hexdigest() if learned.labels_hash else data.hash,
        structures=hashes,
        fingerprint=fingerprint(config, fixed, data.hash + beside, examples),
        baseline=kept,
        external=baseline,
        low=low,
        stress_weight=config.training.stress_weight or 0.0,
        held=data.validation,
        surfaces=learned.surfaces,
        repeats=data.repeats,
    )


@dataclass(frozen=True)
class _Learned:
    """What is learned: labels less all that every prediction adds."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    references: References
    surfaces: tuple[Constants, ...]
    cheap: LowLevel | None
    low: tuple[Example, ...]  # of `cheap`
    labels_hash: str  # of the labels of the surfaces, "" of a model of one energy


def _learned(
    config: TrainConfig,
    folder: Path,
    data: LabelledData,
    labels: list[str],
    baseline: Baseline | None,
    progress: Progress,
    references: References | None,
) -> _Learned:
    """The labels less baseline and reference energies, `references` or those that are fitted here."""
    cutoff, settings = config.model.cutoff, config.data.low_level
    for doubt in doubts(config.model.baseline, data.train.structures):
        warnings.warn(doubt, stacklevel=3)
    cheap_labels = read_low_level(config.data, folder, data.train, labels)  # what is missing is told before the first SCF
    isolated = isolated_energies(folder, config.data.isolated_atoms, data.train.elements, baseline, cutoff, label_names(config.data.keys))
    (train, validation), own, labels_hash = _without_baseline(config, data, baseline, progress)
    surfaces = constants_of(config, own[0], isolated)
    fitted = surfaces[0].references if surfaces else references or fit_references(train, isolated)
    references = kept_references(config, folder, fitted)
    examples, checked = (
        with_surfaces(examples_of(part, references, cutoff, labels, name_of), sets, surfaces)
        for part, sets, name_of in zip((train, validation), own, (data.train_name, data.validation_name))
    )
    if settings is None or cheap_labels is None:
        return _Learned(examples, checked, references, surfaces, None, (), labels_hash)
    cheap = low_level_of(settings, folder, cheap_labels, baseline, cutoff, progress)
    low = examples_of(cheap.data, cheap.references, cutoff, labels, low_level_name(settings))
    return _Learned(examples, checked, references, surfaces, cheap, low, labels_hash)


def _model(
    plan: Plan, examples: tuple[Example, ...], references: References, start: tuple[Checkpoint, str] | None
) -> tuple[Race, References]:
    """The model and its references: those of the trained model that it starts from, where there is one."""
    neighbours = average_neighbours([example.graph for example in examples])
    model = Race(plan, references.species, references.scale, neighbours)
    return (model, references) if start is None else same_constants(start[0], model, references)


def _first(
    config: TrainConfig, plan: Plan, examples: tuple[Example, ...], scales: list[float], start: tuple[Checkpoint, str] | None
) -> Parameters:
    """The first weights: drawn, or those of a trained model. `scales`: of the surfaces, eV/Å."""
    if start is not None:
        return first_weights(start[0], config.trained)
    heads = config.members if by_name(config.posterior).many_last_layers else None
    return initialise(plan, member_seeds(config), first_offsets(plan, examples, scales), heads)


def _without_baseline(
    config: TrainConfig, data: LabelledData, added: Baseline | None, progress: Progress
) -> tuple[list[Dataset], list[list[Dataset]], str]:
    """Training and validation set, and the labels of each surface in them, less the baseline; the hash of the latter as they are in the
    files, "" of a model of one energy."""
    parts, names = [data.train, data.validation], [data.train_name, data.validation_name]
    own = [datasets_of(config, part) for part in parts]
    labels_hash = "".join(map(hash_of_labels, own)) if own[0] else ""
    if added is None:
        return parts, own, labels_hash
    known = [contributions(part, added, config.model.cutoff, name_of, progress) for part, name_of in zip(parts, names)]
    rest = [less(part, each) for part, each in zip(parts, known)]
    return rest, [less_known(config, sets, each) for sets, each in zip(own, known)], labels_hash


def with_stress_weight(config: TrainConfig, weight: float) -> TrainConfig:
    """The configuration with a number for `training.stress_weight`."""
    return config.model_copy(update={"training": config.training.model_copy(update={"stress_weight": weight})})


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
