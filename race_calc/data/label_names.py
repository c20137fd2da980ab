"""Under which names the labels of a structure stand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

PREDICTED = "predicted"  # info["labels"] of frames whose energy and forces are a model's own; of others it names the method


@dataclass(frozen=True)
class LabelNames:
    """Names of ASE's results, or keys of `atoms.info`, `atoms.arrays` or the results.

    Units are ASE's under any name: eV, eV/Å, eV/Å³ with the sign of ASE (positive under tension).
    """

    energy: str = "energy"
    forces: str = "forces"
    stress: str = "stress"

    def of(self, atoms: Atoms) -> dict[str, Any]:
        """energy, forces and stress as they are stored; None for what is not there."""
        results = {} if atoms.calc is None else atoms.calc.results
        found = {}
        for label, name in vars(self).items():
            places = (results,) if name == label else (atoms.info, atoms.arrays, results)
            found[label] = next((place[name] for place in places if name in place), None)
        return found


LABELS = LabelNames()


@dataclass(frozen=True)
class NamesOrAse(LabelNames):
    """The names of a training, for files that may be of another kind: ASE's where a frame has no energy under them, and of every frame
    that `race-calc label` has labelled; what stands under other names in it is of another method."""

    def of(self, atoms: Atoms) -> dict[str, Any]:
        found = super().of(atoms)
        return LABELS.of(atoms) if found["energy"] is None or atoms.info.get("labels", PREDICTED) != PREDICTED else found


def or_ase(names: LabelNames) -> LabelNames:
    """`NamesOrAse` of these names; ASE's own as they are."""
    return names if names == LABELS else NamesOrAse(**vars(names))


def names_in(frames: Sequence[Atoms]) -> LabelNames | None:
    """Names that all frames have their labels under: ASE's or, where only one name can be meant, that one, such as REF_energy and
    REF_forces; None where there are none, or several."""
    if all(LABELS.of(atoms)["energy"] is not None and LABELS.of(atoms)["forces"] is not None for atoms in frames):
        return LABELS
    energies = [set(filter(lambda key: _says(key, "energy") and np.ndim(atoms.info[key]) == 0, atoms.info)) for atoms in frames]
    forces = [set(filter(lambda key: _says(key, "force") and atoms.arrays[key].shape == (len(atoms), 3), atoms.arrays)) for atoms in frames]
    energy, force = set.intersection(*energies), set.intersection(*forces)
    if len(energy) != 1 or len(force) != 1:
        return None
    stress = {key for atoms in frames for key in atoms.info if _says(key, "stress")}
    return LabelNames(energy.pop(), force.pop(), stress.pop() if len(stress) == 1 else "stress")


def _says(key: Any, word: str) -> bool:
    return isinstance(key, str) and word in key.lower()
