"""Labels of several surfaces in one data set: electronic states, and scalars that are never negative.

=========== ====================== ========================= =====================================
surface     of the structure       of the atoms              unit
=========== ====================== ========================= =====================================
state S0    info["energy_S0"]      arrays["forces_S0"]       eV, eV/Å
scalar X    info["X"]              arrays["gradient_X"] (not that of X, the same per Å
                                   needed)
=========== ====================== ========================= =====================================
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase import Atoms

from race_calc.data.dataset import Dataset
from race_calc.data.files import shortened
from race_calc.data.label_names import LabelNames

MOST_SURFACES = 20  # of one model

FEWEST = 5  # frames of a file, of which an order of its states is told
SAME_ORDER = 0.9  # share of the frames of a source in which one state is above the other: then it has an order


def names_of_state(name: str) -> LabelNames:
    return LabelNames(energy=f"energy_{name}", forces=f"forces_{name}", stress=f"stress_{name}")


def of_state(dataset: Dataset, name: str, source: str = "the data set") -> Dataset:
    """The same structures with energies and forces of a state. Raises ValueError naming the frame where one is missing or not finite."""
    names = names_of_state(name)
    found = [(_value(atoms, names.energy, where), _vectors(atoms, names.forces, where)) for atoms, where in _frames(dataset, source)]
    energies, forces = zip(*found)
    return replace(dataset, energy=np.array(energies), forces=forces, stress=(None,) * len(dataset))


def of_scalar(dataset: Dataset, name: str, source: str = "the data set") -> Dataset:
    """The same structures with a scalar as energy and, as forces, minus its gradient; NaN where no frame has one.

    Raises ValueError as `of_state` does, for a negative value, and where some frames have a gradient and others have none.
    """
    key = f"gradient_{name}"
    having = [key in atoms.arrays for atoms in dataset.structures]
    if any(having) and not all(having):
        raise ValueError(f"frame {having.index(False)} of {source} has no {key}, others have: give it to all frames or to none")
    values = np.array([_value(atoms, name, where) for atoms, where in _frames(dataset, source)])
    if (values < 0).any():
        first = int(np.argmax(values < 0))
        raise ValueError(
            f"frame {first} of {source}: {name} is {values[first]:g}, and model.scalars are never negative: give its square or its size, "
            "whose sign does not depend on a phase"
        )
    if all(having):
        forces = tuple(-_vectors(atoms, key, where) for atoms, where in _frames(dataset, source))
    else:
        forces = tuple(np.full((len(atoms), 3), np.nan) for atoms in dataset.structures)
    return replace(dataset, energy=values, forces=forces, stress=(None,) * len(dataset))


def labels_beside(dataset: Dataset, states: Sequence[str], active: int, scalars: Sequence[str]) -> dict[str, np.ndarray]:
    """The gap from the active state to the nearest other one, as "gap", and the scalars, (B,); NaN where a label is missing.

    Raises ValueError naming the frame for a label that is no finite number.
    """

    def told(key: str) -> np.ndarray:
        frames = _frames(dataset, "the data set")
        return np.array([_value(atoms, key, where) if key in atoms.info else np.nan for atoms, where in frames])

    energies = np.stack([told(names_of_state(name).energy) for name in states])
    others = np.delete(energies, active, axis=0)
    return {"gap": np.abs(others - energies[active]).min(axis=0), **{name: told(name) for name in scalars}}


def check_order(sources: Sequence[tuple[str, Dataset]], states: Sequence[str]) -> None:
    """Raises ValueError where two states are in one order in nearly all frames of a file and in the other order in another's:
    the labels of one of them were swapped. States that cross within a file are fine."""
    for low, high in zip(states, states[1:]):
        gaps = [
            (source, np.array([atoms.info[f"energy_{high}"] - atoms.info[f"energy_{low}"] for atoms in data.structures]))
            for source, data in sources
            if len(data) >= FEWEST
        ]
        up = [source for source, gap in gaps if (gap > 0).mean() > SAME_ORDER]
        down = [source for source, gap in gaps if (gap < 0).mean() > SAME_ORDER]
        if up and down:
            raise ValueError(
                f"{high} lies above {low} in {up[0]} and below it in {down[0]}: the labels of the states were swapped in one of them; "
                "name them in the same order in all files; diabatic states that do cross between them are told by files that hold both"
            )


def _frames(dataset: Dataset, source: str) -> list[tuple[Atoms, str]]:
    return [(atoms, f"frame {i} of {source}") for i, atoms in enumerate(dataset.structures)]


def _value(atoms: Atoms, key: str, where: str) -> float:
    if key not in atoms.info:
        raise ValueError(f"{where} has no {key}: store it in info; found the keys {sorted(map(str, atoms.info))}")
    try:
        value = np.asarray(atoms.info[key], dtype=np.float64)
    except (TypeError, ValueError):
        value = np.array(np.nan)
    if value.size != 1 or not np.isfinite(value).all():
        raise ValueError(f"{where}: {key} is {shortened(str(atoms.info[key]))}, one finite number is needed: repair or remove this frame")
    return float(value.reshape(-1)[0])


def _vectors(atoms: Atoms, key: str, where: str) -> np.ndarray:
    if key not in atoms.arrays:
        raise ValueError(
            f"{where} has no {key}: every state needs forces, store them as an array of the atoms; found {sorted(atoms.arrays)}"
        )
    vectors = np.asarray(atoms.arrays[key], dtype=np.float64)
    if vectors.shape != (len(atoms), 3) or not np.isfinite(vectors).all():
        raise ValueError(f"{where}: {key} must be finite numbers (N, 3), found the shape {vectors.shape}: repair or remove this frame")
    return vectors
