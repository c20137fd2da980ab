"""What a model learns from: graphs with the labels that are left for the network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ase import Atoms

from race_calc.data.dataset import Dataset
from race_calc.data.graph import Graph, from_atoms
from race_calc.data.references import References


@dataclass(frozen=True)
class Example:
    """One structure: its graph and its labels in float64, less references and repulsion."""

    graph: Graph
    energy: float
    forces: np.ndarray
    virial: np.ndarray  # (3, 3) eV, NaN where there is no stress
    extra: dict[str, np.ndarray] = field(default_factory=dict)  # name of a label → (N, k) of atoms or (1, k) of the structure
    others: tuple["Example", ...] = ()  # with the labels of the other surfaces

    @property
    def has_stress(self) -> bool:
        """A label, and a cell with a volume."""
        return bool(np.isfinite(self.virial).all() and self.graph.volume[0] > 0)


def examples_of(
    dataset: Dataset,
    references: References,
    cutoff: float,
    labels: Sequence[str] = (),
    name_of: Callable[[int], str] = "structure {}".format,
) -> tuple[Example, ...]:
    """`labels`: keys of what is learned besides energies, forces and stress; `name_of`: what messages call a structure.

    Raises ValueError where a label is missing, and for atoms that no graph can be made of, such as two at one place.
    """
    examples: list[Example] = []
    extra = extra_labels(dataset, labels, "the data set")
    for atoms, energy, forces, stress, more in zip(dataset.structures, dataset.energy, dataset.forces, dataset.stress, extra):
        virial = np.full((3, 3), np.nan) if stress is None else stress * atoms.cell.volume
        rest = float(energy) - references.reference_energy(atoms.numbers)
        try:
            examples.append(Example(from_atoms(atoms, cutoff), rest, forces, virial, more))
        except ValueError as error:
            raise ValueError(f"{name_of(len(examples))}: {error}") from error
    return tuple(examples)


def with_others(examples: Sequence[Example], datasets: Sequence[Dataset], references: Sequence[References]) -> tuple[Example, ...]:
    """With the labels of the other surfaces, one data set of the same structures and references for each."""
    unknown = np.full((3, 3), np.nan)

    def other(example: Example, i: int, data: Dataset, known: References) -> Example:
        rest = float(data.energy[i]) - known.reference_energy(example.graph.numbers)
        return Example(example.graph, rest, data.forces[i], unknown)

    return tuple(
        replace(example, others=tuple(other(example, i, data, known) for data, known in zip(datasets, references)))
        for i, example in enumerate(examples)
    )


def extra_labels(dataset: Dataset, labels: Sequence[str], source: str) -> list[dict[str, np.ndarray]]:
    """`Example.extra` of every structure. Raises ValueError naming the frame of `source` where one is missing or not finite."""
    return [{name: _label(atoms, name, f"frame {i} of {source}") for name in labels} for i, atoms in enumerate(dataset.structures)]


def _label(atoms: Atoms, name: str, where: str) -> np.ndarray:
    """(N, k) from `atoms.arrays` or (1, k) from `atoms.info`."""
    if name not in atoms.arrays and name not in atoms.info:
        raise ValueError(
            f"{where} has no {name}, which model.head learns from: store it as an array of the atoms or in info; found "
            f"arrays {sorted(atoms.arrays)} and info keys {sorted(atoms.info)}"
        )
    found, rows = (atoms.arrays[name], len(atoms)) if name in atoms.arrays else (atoms.info[name], 1)
    values = np.asarray(found, dtype=np.float64).reshape(rows, -1)
    if not np.isfinite(values).all():
        raise ValueError(f"{where}: {name} not finite (NaN or infinite): repair or remove this frame")
    return values
