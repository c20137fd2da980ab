"""The surfaces of a training: their constants, examples and first offsets."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase import Atoms

from race_calc.data.contribution import Contribution
from race_calc.data.dataset import Dataset
from race_calc.data.graph import Graph, from_atoms
from race_calc.data.properties import of_property
from race_calc.data.references import References, fit_references
from race_calc.data.surfaces import of_scalar, of_state
from race_calc.data.targets import Example, with_others
from race_calc.model.heads import initial_offsets
from race_calc.model.parameters import surface_prefix
from race_calc.model.plan import Plan
from race_calc.model.surfaces import Constants, Surface, charge_extent, surfaces_of
from race_calc.train.config import TrainConfig
from race_calc.train.labels import less
from race_calc.train.stress import virial_variance

EXACT = 1e-6  # of the largest label
REACH = 5.0  # a dipole of about this many Å times charges of the size of the unit


def datasets_of(config: TrainConfig, data: Dataset) -> list[Dataset]:
    """The data set with the labels of each surface, as they are in the files; [] for a model of one energy."""
    if not config.model.has_surfaces:
        return []
    return [_labels_of(surface, data) for surface in surfaces_of(config.model)]


def _labels_of(surface: Surface, data: Dataset) -> Dataset:
    if surface.is_property:
        return of_property(data, surface.name)
    return of_state(data, surface.name) if surface.is_state else of_scalar(data, surface.name)


def less_known(config: TrainConfig, datasets: Sequence[Dataset], known: Sequence[Contribution] | None) -> list[Dataset]:
    """Those of states less the baseline."""
    states = [surface.is_state and known is not None for surface in surfaces_of(config.model)]
    return [less(data, known or ()) if is_state else data for data, is_state in zip(datasets, states)]


def constants_of(config: TrainConfig, datasets: Sequence[Dataset], isolated: dict[int, float] | None) -> tuple[Constants, ...]:
    """Of every surface, from its training set; () for a model of one energy.

    A scalar has no reference energies; its unit makes its mean as large as a force.
    """
    found: list[Constants] = []
    for surface, data in zip(surfaces_of(config.model), datasets):
        if surface.is_property:
            found.append(_of_property(surface, data))
        elif surface.is_state:
            found.append(Constants(fit_references(data, isolated)))
        else:
            first = found[0].references
            mean, has_forces = float(data.energy.mean()), not any(np.isnan(forces).any() for forces in data.forces)
            nothing = replace(first, energies=(0.0,) * len(first.species), shift=0.0, undetermined=())
            found.append(Constants(nothing, mean / first.scale if mean > 0 else 1.0, has_forces))
    return tuple(found)


def _of_property(surface: Surface, data: Dataset) -> Constants:
    """Least squares of the labels by composition (sum), or by that and Σ Z |r − c|² (extent); their mean (mean).

    The network learns the rest in a unit in which it is about one, whatever the unit of the labels. Raises ValueError without a label.
    """
    kind = surface.kind
    some = data.subset(np.flatnonzero(np.isfinite(data.energy)))
    if not len(some):
        raise ValueError(f"no structure of the training set has {surface.name} in its info: look at the names in model.targets")
    sizes, elements = np.array([len(atoms) for atoms in some.structures], dtype=np.float64), data.elements
    counts = np.array([[np.count_nonzero(atoms.numbers == z) for z in elements] for atoms in some.structures], dtype=np.float64)
    zeros, values = (0.0,) * len(elements), some.energy

    def constants(energies: Sequence[float], unit: float, **more: float) -> Constants:
        smallest = EXACT * float(np.abs(values).max())  # below, a rounding error: what is left is nothing
        unit = max(unit, smallest) or 1.0
        return Constants(References(elements, tuple(map(float, energies)), 0.0, 1.0), unit, has_forces=False, **more)

    if kind == "mean":
        return constants(zeros, float(values.std()), constant=float(values.mean()))
    if kind == "dipole":
        return constants(zeros, float(np.sqrt((values**2).mean())) / REACH)
    columns = [counts] if kind == "sum" else [counts, np.array([charge_extent(_graph(atoms)) for atoms in some.structures])]
    matrix = np.hstack(columns)
    solution = np.linalg.lstsq(matrix, values, rcond=None)[0]
    rest = (values - matrix @ solution) / np.sqrt(sizes)
    extent = float(solution[-1]) if kind == "extent" else 0.0
    return constants(solution[: len(elements)], float(rest.std()), extent=extent)


def _graph(atoms: Atoms) -> Graph:
    return from_atoms(atoms, 1e-3)  # positions and elements matter here, pairs do not


def with_surfaces(examples: tuple[Example, ...], datasets: Sequence[Dataset], constants: Sequence[Constants]) -> tuple[Example, ...]:
    """The examples with the labels of the other surfaces, in the units of the network; the first less its constants."""
    if not constants:
        return examples
    made = with_others(examples, datasets[1:], [known.references for known in constants[1:]])

    def rest(example: Example, known: Constants) -> Example:
        energy = (example.energy - float(known.known(example.graph)[0])) / known.unit
        return replace(example, energy=energy, forces=example.forces / known.unit)

    return tuple(
        replace(rest(example, constants[0]), others=tuple(rest(other, known) for other, known in zip(example.others, constants[1:])))
        for example in made
    )


def first_offsets(plan: Plan, examples: Sequence[Example], scales: Sequence[float]) -> dict[str, float]:
    """Where the offsets of every surface start, by their names; `scales`: of the network, one for each."""
    found: dict[str, float] = {}
    for k, scale in enumerate(scales):
        own = [example.others[k - 1] if k else example for example in examples]
        residual = np.array([example.energy / example.graph.n_atoms**0.5 for example in own])
        starts = initial_offsets(plan.outputs, float(np.nanmean(residual**2)), scale**2, virial_variance(own))
        found |= {surface_prefix(k) + name: value for name, value in starts.items()}
    return found
