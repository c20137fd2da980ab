"""Under which names the labels of a structure stand."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

PREDICTED = "predicted"  # info["labels"] of frames whose energy and forces are a model's own; of others it names the method


@dataclass(frozen=True)
class LabelNames:
    """Names of ASE's results, or keys of `atoms.info`, `atoms.arrays` or the results.

    Units are ASE's under any name: eV, eV/Å, eV/Å³ with the sign of ASE (positive under tension). Under a `stress` whose name has "virial"
    in it stands −stress · volume in eV, as other programs write it.
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
        if found["stress"] is not None and "virial" in self.stress.lower():
            found["stress"] = _stress_of(found["stress"], atoms)
        return found


LABELS = LabelNames()
OTHERS = ("weight", "per_atom", "peratom", "/atom", "uncertainty", "sigma", "std", "variance", "formation", "cohesive", "atomization")


@dataclass(frozen=True)
class NamesOrAse(LabelNames):
    """The names of a training, for files that may be of another kind: ASE's of a frame that has no energy under them."""

    def of(self, atoms: Atoms) -> dict[str, Any]:
        found = super().of(atoms)
        return LABELS.of(atoms) if found["energy"] is None else found


@dataclass(frozen=True)
class NamesOfNew(NamesOrAse):
    """The same for new labels: ASE's also of every frame that `race-calc label` has labelled, in which other names are older."""

    def of(self, atoms: Atoms) -> dict[str, Any]:
        return LABELS.of(atoms) if atoms.info.get("labels", PREDICTED) != PREDICTED else super().of(atoms)


def or_ase(names: LabelNames, kind: type[NamesOrAse] = NamesOrAse) -> LabelNames:
    """A `kind` of these names; ASE's own as they are."""
    return names if names == LABELS else kind(**vars(names))


def names_in(frames: Sequence[Atoms]) -> LabelNames | None:
    """Names that most frames have their labels under: ASE's or, where only one name can be meant, that one, such as REF_energy and
    REF_forces; None where there are none, or several."""
    if all(LABELS.of(atoms)["energy"] is not None and LABELS.of(atoms)["forces"] is not None for atoms in frames):
        virials = _stresses_in(frames) if all(LABELS.of(atoms)["stress"] is None for atoms in frames) else set()
        return LabelNames(stress=virials.pop()) if len(virials) == 1 else LABELS
    stresses = _stresses_in(frames)
    energies = _of_most([_named(atoms.info, "energy", ((),)) for atoms in frames])
    forces = _of_most([_named(atoms.arrays, "force", ((len(atoms), 3),)) for atoms in frames])
    if len(energies) != 1 or len(forces) != 1:
        return None
    return LabelNames(energies.pop(), forces.pop(), stresses.pop() if len(stresses) == 1 else "stress")


def _of_most(names: Sequence[set[str]]) -> set[str]:
    counts = Counter(name for one in names for name in one)
    return {name for name, count in counts.items() if count > len(names) / 2}


def _stresses_in(frames: Sequence[Atoms]) -> set[str]:
    """Names of stresses or, where there are none, of virials."""
    kinds = ({key for atoms in frames for key in _named(atoms.info, word, ((6,), (9,), (3, 3)))} for word in ("stress", "virial"))
    return next(filter(None, kinds), set())


def _stress_of(virial: Any, atoms: Atoms) -> Any:
    """−virial / volume; None where there is no volume, and what is no number as it is."""
    values = np.asarray(virial)
    if values.dtype.kind not in "fi":
        return virial
    return -values / atoms.cell.volume if atoms.cell.rank == 3 else None


def _named(values: Mapping[Any, Any], word: str, shapes: Sequence[tuple[int, ...]]) -> set[str]:
    """Keys with the word, but none of OTHERS, whose values are real numbers of one of the shapes."""
    keys = [key for key in values if isinstance(key, str) and word in key.lower() and not any(one in key.lower() for one in OTHERS)]
    return {key for key in keys if np.asarray(values[key]).dtype.kind in "fi" and np.shape(values[key]) in shapes}
