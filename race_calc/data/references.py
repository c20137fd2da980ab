"""Energy references of the model (method, section 1, row "energy").

E = sum_i (E0[z_i] + shift + scale * o_i) + repulsion: E0 ``energies``, o_i the model's raw output. They are subtracted from the labels in
float64 before any cast.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from race_calc.data.dataset import Dataset, element_names
from race_calc.data.files import check_regular, shortened
from race_calc.data.label_names import LABELS, LabelNames

FREE = 1e-6  # of the largest number of atoms of an element: below, rounding


@dataclass(frozen=True)
class References:
    """Constants of the energy expression.

    ============ ====================== ================================================================
    key          shape                  unit or meaning
    ============ ====================== ================================================================
    species      (S,) atomic numbers    sorted
    energies     (S,) E0 of the species eV
    shift        mean residual          eV/atom
    scale        force RMS x 1 Å        eV
    undetermined (K, S)                 orthonormal directions of E0 that the training compositions leave
                                        free; () where isolated atoms or the compositions fix all
    ============ ====================== ================================================================

    ``undetermined`` is no part of a comparison: models of older versions do not tell it.
    """

    species: tuple[int, ...]
    energies: tuple[float, ...]
    shift: float
    scale: float
    undetermined: tuple[tuple[float, ...], ...] = field(default=(), compare=False)

    def leaves_free(self, numbers: Sequence[int] | np.ndarray) -> bool:
        """Does the sum of E0 over these atoms depend on what the training did not tell? Elements that are not among the species do not."""
        if not self.undetermined:
            return False
        counts = np.bincount(np.asarray(numbers), minlength=119)[list(self.species)].astype(np.float64)
        return bool(np.abs(np.array(self.undetermined) @ counts).max() > FREE * max(counts.max(), 1.0))

    def per_atom(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """E0[z] + shift of each atom in eV, (N,) float64. Raises ``ValueError`` naming elements that are not among the species."""
        z = np.asarray(numbers, dtype=np.int64).reshape(-1)
        unknown = sorted(set(z.tolist()) - set(self.species))
        if unknown:
            raise ValueError(
                f"no energy reference for {element_names(unknown)}: this model knows {element_names(self.species)}; "
                "train it on data with these elements"
            )
        return np.asarray(np.array(self.energies, dtype=np.float64)[np.searchsorted(self.species, z)] + self.shift)

    def reference_energy(self, numbers: Sequence[int] | np.ndarray) -> float:
        """Sum of :meth:`per_atom` over the atoms in eV. Raises the same ``ValueError``."""
        return float(self.per_atom(numbers).sum())

    def close_to(self, other: "References") -> bool:
        """Are they the same but for the last digits, in which an SCF may differ from one machine to another?"""
        mine, its = ([*one.energies, one.shift, one.scale] for one in (self, other))
        return self.species == other.species and bool(np.allclose(mine, its, rtol=1e-7, atol=1e-7))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        stored = {"species": list(self.species), "energies": list(self.energies), "shift": self.shift, "scale": self.scale}
        return stored | ({"undetermined": [list(row) for row in self.undetermined]} if self.undetermined else {})

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "References":
        """Inverse of :meth:`to_dict`. Raises ``ValueError`` for missing or unfit entries."""
        try:
            species = tuple(int(z) for z in data["species"])
            energies = tuple(float(e) for e in data["energies"])
            shift, scale = float(data["shift"]), float(data["scale"])
            undetermined = tuple(tuple(float(value) for value in row) for row in data.get("undetermined", ()))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"{type(error).__name__}: {error}"
            raise ValueError(f"not stored references ({what}): expected 'species', 'energies', 'shift' and 'scale'") from error
        if list(species) != sorted(set(species)) or len(species) != len(energies):
            raise ValueError(
                f"stored references need sorted species, one energy each; found {len(species)} species, {len(energies)} energies"
            )
        unknown = [z for z in species if not 1 <= z < len(chemical_symbols)]
        if unknown or not species:
            raise ValueError(f"references.species are {unknown or 'none'}: atomic numbers from 1 to {len(chemical_symbols) - 1} are needed")
        for key, value in {**{f"energies[{i}]": value for i, value in enumerate(energies)}, "shift": shift, "scale": scale}.items():
            if not np.isfinite(value) or (key == "scale" and value <= 0.0):
                raise ValueError(f"references.{key} is {value}: a finite number{' > 0' * (key == 'scale')} is needed")
        if any(len(row) != len(species) or not np.isfinite(row).all() for row in undetermined):
            raise ValueError(f"references.undetermined needs rows of {len(species)} finite numbers, one for each species")
        return cls(species, energies, shift, scale, undetermined)


def compositions(dataset: Dataset) -> np.ndarray:
    """Atoms of each element of the data set in each structure, (B, S)."""
    species = np.array(dataset.elements)
    return np.array([np.bincount(a.numbers, minlength=119)[species] for a in dataset.structures], dtype=np.float64)


def fit_references(dataset: Dataset, isolated: dict[int, float] | None = None) -> References:
    """References of a training set.

    E0: energies of isolated atoms (eV, keyed by atomic number) when given, else the minimum-norm least-squares solution of composition (B,
    S) @ E0 = energy, with a warning when the composition matrix is rank deficient (``undetermined`` then spans its null space). shift:
    mean over structures of (E - sum E0) / N. scale: RMS of all force components, 1.0 where that is 0. Raises ``ValueError`` when
    ``isolated`` lacks an element of the data set.
    """
    species, counts = np.array(dataset.elements), compositions(dataset)
    undetermined: tuple[tuple[float, ...], ...] = ()
    if isolated is not None:
        lacking = [z for z in dataset.elements if z not in isolated]
        if lacking:
            raise ValueError(
                f"the isolated atoms lack {element_names(lacking)} (present: {element_names(sorted(isolated))}): "
                "add them, or leave isolated atoms out to fit the references"
            )
        energies = np.array([isolated[z] for z in dataset.elements], dtype=np.float64)
    else:
        energies, _, rank, _ = np.linalg.lstsq(counts, dataset.energy, rcond=None)
        if rank < len(species):
            undetermined = tuple(map(tuple, np.linalg.svd(np.unique(counts, axis=0))[2][rank:].tolist()))
            warnings.warn(
                f"the compositions fix only {rank} of {len(species)} element energies ({element_names(species)}): the minimum-norm "
                "references are not atomic energies, and other compositions will be off by a constant; give isolated_atoms to avoid this",
                stacklevel=2,
            )
    residual = (dataset.energy - counts @ energies) / counts.sum(axis=1)  # (B,) eV/atom
    scale = float(np.sqrt(np.mean(np.concatenate(dataset.forces) ** 2)))
    scale = scale if np.isfinite(scale) and scale > 0.0 else 1.0
    return References(dataset.elements, tuple(energies.tolist()), float(residual.mean()), scale, undetermined)


def read_isolated_atoms(path: str | Path, names: LabelNames = LABELS) -> dict[int, float]:
    """Energies (eV) of isolated atoms, keyed by atomic number, from the frames of one atom; others in the file are passed over.

    Raises ``FileNotFoundError`` for a missing file; ``ValueError`` for a file ASE cannot read or without such frames,
    for such a frame without a finite energy, or an element given twice.
    """
    from ase.io import read  # here: see `race_calc.data.dataset`

    if not Path(path).exists():
        raise FileNotFoundError(f"file of isolated atoms {path} does not exist: check the path")
    check_regular(Path(path), or_folder=True)
    try:
        frames: Any = read(path, index=":", do_not_split_by_at_sign=True)
    except Exception as error:  # ASE's readers raise whatever their parsers meet
        raise ValueError(
            f"ASE cannot read the isolated atoms {path} ({shortened(str(error))}): give one single-atom frame per element"
        ) from error
    energies: dict[int, float] = {}
    for i, atoms in enumerate(frames):
        if len(atoms) != 1:
            continue
        energy = names.of(atoms)["energy"]
        if energy is None or not np.isfinite(energy):
            raise ValueError(f"frame {i} of {path} ({atoms.symbols}) has no finite energy: store it as '{names.energy}'")
        z = int(atoms.numbers[0])
        if z in energies:
            raise ValueError(f"frame {i} of {path} gives {atoms.symbols} a second time: keep one")
        energies[z] = float(energy)
    if not energies:
        raise ValueError(f"{path} has no frame of one atom: isolated atoms need one of each element")
    return energies
