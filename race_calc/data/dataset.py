"""Labelled structures: read from a file, checked once, then trusted.

Everything after this file may rely on finite numbers, known elements and at least one atom in each structure.
"""

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from race_calc import moved_names
from race_calc.data.files import check_regular, shortened
from race_calc.data.label_names import LABELS, PREDICTED, LabelNames, NamesOrAse
from race_calc.data.npz import read_npz

SMEARED = 1e-3  # eV between energy and free energy


@dataclass(frozen=True, eq=False)
class Dataset:
    """B structures with labels.

    ========== ===================================== ==========
    key        shape                                 unit
    ========== ===================================== ==========
    structures B ``ase.Atoms`` without a calculator  Å
    energy     (B,) float64                          eV
    forces     B arrays (N_b, 3) float64             eV/Å
    stress     B arrays (3, 3) float64, or ``None``  eV/Å^3, ASE sign
    ========== ===================================== ==========

    ``Atoms.info`` and ``Atoms.arrays`` are kept (a temperature, charges of the atoms), constraints are not.
    """

    structures: tuple[Atoms, ...]
    energy: np.ndarray
    forces: tuple[np.ndarray, ...]
    stress: tuple[np.ndarray | None, ...]

    def __len__(self) -> int:
        return len(self.structures)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers present, sorted."""
        return tuple(sorted({int(z) for atoms in self.structures for z in set(atoms.numbers)}))

    def subset(self, indices: Iterable[int]) -> "Dataset":
        """The structures with these indices, in this order. Raises ``ValueError`` for an index outside 0 .. B - 1."""
        indices = [int(i) for i in indices]
        check_indices(indices, len(self))
        forces, stress = tuple(self.forces[i] for i in indices), tuple(self.stress[i] for i in indices)
        return Dataset(tuple(self.structures[i] for i in indices), self.energy[indices], forces, stress)


def read_dataset(path: str | Path, index: str | int | slice = ":", names: LabelNames = LABELS) -> Dataset:
    """Read structures with energies and forces (stress where present).

    ``path``: any file ASE reads, or an npz file of one of these layouts:

    - keys Z, R_train, E_train, F_train, R_test, ... in eV and Å; the part must be chosen with ``file.npz#train`` or ``#test``;
    - the published rMD17 (Christensen & von Lilienfeld 2020): nuclear_charges, coords, energies, forces in kcal/mol, converted to eV;
    - electronic states: Z, R, E, F with an axis of states, in eV and Å (`race_calc.data.npz`).

    ``index``: an ASE index ("0:450", ":", 7, a slice). ``names``: of the labels (in npz files only those of states). Raises
    ``FileNotFoundError`` for a missing file and ``ValueError`` for a file that cannot be read and for every fault named by
    :func:`dataset_from_atoms`.
    """
    name, part = str(path), None
    if ".npz#" in name:
        name, part = name.rsplit("#", 1)
    source = str(path) if index == ":" else f"{path} (index {index})"  # frames are counted from its start
    if name.endswith(".npz"):
        _check_there(Path(name))
        frames = read_npz(name, part, index)
        some = frames[0][0] if frames else Atoms()
        there = names.energy in some.info and names.forces in some.arrays
        if frames and names != LABELS and (there or not isinstance(names, NamesOrAse)):
            if not there:
                raise ValueError(
                    f"{source} has no {names.energy} and {names.forces}: it has the info keys {sorted(some.info)} and arrays "
                    f"{sorted(some.arrays)}, beside the energies and forces that go by no name"
                )
            return _checked([(atoms, atoms.info[names.energy], atoms.arrays[names.forces], None) for atoms, *_ in frames], source)
        return _checked([(*frame, None) for frame in frames], source)
    return dataset_from_atoms(read_structures(name, index), source, names)


def read_structures(path: str | Path, index: str | int | slice = ":") -> list[Atoms]:
    """Structures of any file that ASE reads, with or without labels.

    Raises FileNotFoundError for a missing file, ValueError for one that cannot be read.
    """
    from ase.io import read  # here: with all that it imports it takes as long as half of torch

    _check_there(Path(path))
    try:
        frames = read(str(path), index=index, do_not_split_by_at_sign=True)
    except Exception as error:  # ASE's readers raise whatever their parsers meet
        if isinstance(index, str) and not re.fullmatch(r"-?\d*(:-?\d*){0,2}", index):
            raise ValueError(f"{index!r} names no frames of {path}: write a number or a slice, such as 7, 450: or ::2") from error
        raise ValueError(
            f"ASE cannot read {path} with index {index!r} ({type(error).__name__}: {shortened(str(error))}): "
            "give a file format that ASE knows and an index inside the file"
        ) from error
    return [frames] if isinstance(frames, Atoms) else list(frames)


def _check_there(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"data file {path} does not exist: check the path ({path.absolute()})")
    check_regular(path, or_folder=True)  # a pipe would be waited for; some formats of ASE are folders


def dataset_from_atoms(frames: Sequence[Atoms], source: str = "the list of structures", names: LabelNames = LABELS) -> Dataset:
    """Data set of ``Atoms`` whose calculators hold energy (eV) and forces (eV/Å), or that hold them under other ``names``.

    Labels are taken from ``atoms.calc.results``, so constraints do not change the forces. The stress is dropped where the cell has no
    volume. Raises ``ValueError`` naming ``source`` and the frame for: no frames, no atoms, no energy or forces, labels that are
    predictions, unknown elements, numbers that are not finite, forces of a wrong shape, a periodic direction without a cell vector.
    """
    labelled = []
    for i, atoms in enumerate(frames):
        if atoms.info.get("labels") == PREDICTED:
            raise ValueError(
                f"the labels of frame {i} of {source} are predictions of a model (info labels={PREDICTED}), such as the monitor saves "
                "them: nothing can be learned from them, compute energy and forces with the reference method, store those, remove the key"
            )
        labels = names.of(atoms)
        missing = [getattr(names, label) for label in ("energy", "forces") if labels[label] is None]
        if missing and len(atoms):
            more = sum(bool(len(one)) and any(names.of(one)[label] is None for label in ("energy", "forces")) for one in frames[i + 1 :])
            raise ValueError(
                f"frame {i} of {source} has no {' and no '.join(missing)}{f', nor have {more} after it all of them' if more else ''}: the "
                f"labels must be stored as the ASE results 'energy' and 'forces' (in extxyz, keys of these names), or, for a training, "
                f"under names that its configuration tells (keys of data or data.low_level, such as {{energy: REF_energy}}); found info "
                f"keys {sorted(map(str, atoms.info))} and arrays {sorted(atoms.arrays)}"
            )
        labelled.append((atoms, *labels.values()))
    if names.energy == LABELS.energy:
        _warn_of_smearing(frames, source)
    return _checked(labelled, source)


def _warn_of_smearing(frames: Sequence[Atoms], source: str) -> None:
    """Where the energy is another one than that whose gradient the forces are."""
    both = [(calc.results["energy"], calc.results["free_energy"]) for calc in (one.calc for one in frames) if _has_both(calc)]
    if both and (largest := max(abs(energy - free) for energy, free in both)) > SMEARED:
        warnings.warn(
            f"{source} has energies beside free energies, which differ by up to {largest:.3g} eV (smearing of electrons): the forces are "
            "the gradient of the free energy; train on it with keys: {energy: free_energy} under data, and keep to one of them",
            stacklevel=3,
        )


def _has_both(calc: Any) -> bool:
    known = {} if calc is None else calc.results
    return isinstance(known.get("energy"), float) and isinstance(known.get("free_energy"), float)


def check_same_elements(train: Dataset, other: Dataset, name: str = "the validation set") -> None:
    """Raise ``ValueError`` when ``other`` holds an element that ``train`` lacks. Fewer elements in it are fine."""
    unseen = sorted(set(other.elements) - set(train.elements))
    if unseen:
        raise ValueError(
            f"{name} holds {element_names(unseen)}, which the training set "
            f"({element_names(train.elements)}) lacks: give both sets the same elements"
        )


def element_names(numbers: Iterable[int]) -> str:
    """Chemical symbols for messages, such as "H, C, O"."""
    return ", ".join(chemical_symbols[z] if 0 < z < len(chemical_symbols) else f"Z={z}" for z in numbers)


def check_indices(indices: Iterable[int], n: int, whose: str = "") -> None:
    """Raise ``ValueError`` for indices outside 0 .. n - 1; ``whose``: such as " of the split"."""
    outside = [i for i in indices if not 0 <= i < n]
    if outside:
        raise ValueError(
            f"{len(outside)} indices{whose} (first: {outside[0]}) are outside the data set of {n} structures: use 0 to {n - 1}, "
            "and the file that they were made for"
        )


def _checked(labelled: Sequence[tuple[Atoms, Any, Any, Any]], source: str) -> Dataset:
    """Data set of (atoms, energy, forces, stress) after all checks."""
    if not labelled:
        raise ValueError(f"{source} holds no structures: give a file and an index with at least one frame")
    structures, energies, *arrays = zip(*(_frame(*labels, f"frame {i} of {source}") for i, labels in enumerate(labelled)))
    return Dataset(structures, np.array(energies), *arrays)


def _frame(labelled: Atoms, energy: Any, forces: Any, stress: Any, where: str) -> tuple[Atoms, float, np.ndarray, np.ndarray | None]:
    atoms: Atoms = labelled.copy()
    atoms.set_constraint()
    results = {} if labelled.calc is None else labelled.calc.results
    for name in results.keys() & {"charges", "magmoms"}:  # arrays in a file that ASE's readers take for results
        atoms.arrays.setdefault(name, np.array(results[name]))
    if len(atoms) == 0:
        raise ValueError(f"{where} has no atoms: remove it")
    if atoms.numbers.min() < 1 or atoms.numbers.max() >= len(chemical_symbols):
        raise ValueError(f"{where} has atoms that are no chemical element (such as X): remove them")
    flat = np.flatnonzero(atoms.pbc & ~atoms.cell.array.any(axis=1))
    if len(flat):
        raise ValueError(f"{where} is periodic along cell vector {int(flat[0])}, which is zero: give the cell or switch pbc off")
    energy, forces = _real(energy, "energy", where), _real(forces, "forces", where)
    if energy.ndim:
        raise ValueError(f"{where}: energy has the shape {energy.shape}, one number is needed")
    if forces.shape != (len(atoms), 3):
        raise ValueError(f"{where}: forces have the shape {forces.shape}, expected {(len(atoms), 3)}")
    stress = None if stress is None or atoms.cell.rank < 3 else _full_stress(_real(stress, "stress", where), where)
    numbers = {"positions": atoms.positions, "cell": atoms.cell.array, "energy": energy, "forces": forces}
    for name, values in (numbers if stress is None else numbers | {"stress": stress}).items():
        if not np.isfinite(values).all():
            raise ValueError(f"{where}: {name} not finite (NaN or infinite): repair or remove this frame")
    return atoms, float(energy), forces, stress


def _real(values: Any, name: str, where: str) -> np.ndarray:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: {name} is {shortened(repr(values))}, which is no number: repair or remove this frame") from None


def _full_stress(stress: np.ndarray, where: str) -> np.ndarray:
    """(3, 3), also from nine numbers, and from ASE's Voigt order xx, yy, zz, yz, xz, xy."""
    if stress.shape == (6,):
        return stress[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    stress = stress.reshape(3, 3) if stress.shape == (9,) else stress  # as extended XYZ has it under a name of its own
    if stress.shape != (3, 3):
        raise ValueError(f"{where}: stress has the shape {stress.shape}, expected (6,), (9,) or (3, 3)")
    return stress


__getattr__ = moved_names(__name__)
