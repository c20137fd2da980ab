"""The surfaces of a training beside the first: their constants, examples and first offsets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from race_calc.data.contribution import Baseline
from race_calc.data.dataset import Dataset
from race_calc.data.references import References, fit_references
from race_calc.data.surfaces import of_scalar, of_state
from race_calc.data.targets import Example, with_others
from race_calc.model.heads import initial_offsets
from race_calc.model.parameters import surface_prefix
from race_calc.model.plan import Plan
from race_calc.model.surfaces import Constants, Surface, surfaces_of
from race_calc.train.config import TrainConfig
from race_calc.train.labels import without_baseline


@dataclass(frozen=True)
class Others:
    """Of every surface but the first."""

    surfaces: tuple[Surface, ...]
    constants: tuple[Constants, ...]


def others_of(
    config: TrainConfig, train: Dataset, references: References, isolated: dict[int, float] | None, added: Baseline | None
) -> Others:
    """Constants from the training set. A scalar has no reference energies; its unit makes its mean as large as a force."""
    surfaces, found = surfaces_of(config.model)[1:], []
    for surface in surfaces:
        data = labels_of(surface, train, config, added)
        if surface.positive:
            mean = float(data.energy.mean())
            nothing = replace(references, energies=(0.0,) * len(references.species), shift=0.0)
            has_forces = not any(np.isnan(forces).any() for forces in data.forces)
            found.append(Constants(nothing, mean / references.scale if mean > 0 else 1.0, has_forces))
        else:
            found.append(Constants(fit_references(data, isolated)))
    return Others(surfaces, tuple(found))


def labels_of(surface: Surface, data: Dataset, config: TrainConfig, added: Baseline | None) -> Dataset:
    """The data set with the labels of a surface; of a state, less the baseline."""
    if surface.positive:
        return of_scalar(data, surface.name)
    found = of_state(data, surface.name)
    return found if added is None else without_baseline(found, added, config.model.cutoff)


def with_surfaces(
    examples: tuple[Example, ...], data: Dataset, others: Others, config: TrainConfig, added: Baseline | None
) -> tuple[Example, ...]:
    """The examples with the labels of the other surfaces, in the units of the network."""
    if not others.surfaces:
        return examples
    sets = []
    for surface, known in zip(others.surfaces, others.constants):
        labels = labels_of(surface, data, config, added)
        sets.append(replace(labels, energy=labels.energy / known.unit, forces=tuple(forces / known.unit for forces in labels.forces)))
    return with_others(examples, sets, [known.references for known in others.constants])


def first_offsets(plan: Plan, examples: Sequence[Example], others: Others) -> dict[str, float]:
    """Where the offsets of the other surfaces start, by their names."""
    found: dict[str, float] = {}
    for k, known in enumerate(others.constants):
        residual = np.array([example.others[k].energy / example.graph.n_atoms**0.5 for example in examples])
        starts = initial_offsets(plan.outputs, float(np.mean(residual**2)), known.references.scale**2)
        found |= {surface_prefix(k + 1) + name: value for name, value in starts.items()}
    return found
