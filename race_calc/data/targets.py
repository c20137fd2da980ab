"""What a model learns from: graphs with the labels that are left for the network."""

from dataclasses import dataclass

import numpy as np

from race_calc.data.dataset import Dataset
from race_calc.data.references import References
from race_calc.graph import Graph, from_atoms


@dataclass(frozen=True)
class Example:
    """One structure: its graph and its labels in float64, less references and repulsion."""

    graph: Graph
    energy: float
    forces: np.ndarray
    virial: np.ndarray  # (3, 3) eV, NaN where there is no stress


def examples_of(dataset: Dataset, references: References, cutoff: float) -> tuple[Example, ...]:
    examples = []
    for atoms, energy, forces, stress in zip(dataset.structures, dataset.energy, dataset.forces, dataset.stress):
        virial = np.full((3, 3), np.nan) if stress is None else stress * atoms.get_volume()
        energy = float(energy) - references.reference_energy(atoms.numbers)
        examples.append(Example(from_atoms(atoms, cutoff), energy, forces, virial))
    return tuple(examples)
