"""Structures that have plainly exploded: no model need be asked. Uses ASE and SciPy."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from scipy.spatial import cKDTree

from race_calc.uncertainty.prediction import Prediction

CLOSEST = 0.5  # sums of covalent radii: no bond is shorter, whatever the temperature


@dataclass(frozen=True)
class Explosion:
    """What is wrong, in words; the atom it is seen at, or None; the distance of two atoms in sums of covalent radii, else NaN."""

    message: str
    atom_index: int | None
    value: float = float("nan")


def explosion(atoms: Atoms, prediction: Prediction) -> Explosion | None:
    """None for a structure in one piece: all numbers finite, no two atoms closer than CLOSEST sums of covalent radii (periodic
    images included)."""
    broken = broken_geometry(atoms) or _not_finite("force", prediction.forces, atoms)
    if broken is not None:
        return broken
    if not np.isfinite(prediction.energy).all():
        return Explosion("the energy is not finite", None)
    return too_close(atoms)


def broken_geometry(atoms: Atoms) -> Explosion | None:
    """What is not finite of positions and cell, or None: of such a structure nothing else can be asked."""
    if not np.isfinite(atoms.cell.array).all():
        return Explosion("the cell is not finite", None)
    return _not_finite("position", atoms.positions, atoms)


def _not_finite(name: str, values: np.ndarray, atoms: Atoms) -> Explosion | None:
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if not len(broken):
        return None
    return Explosion(f"the {name} of atom {broken[0]} ({atoms.symbols[broken[0]]}) is not finite", int(broken[0]))


def too_close(atoms: Atoms) -> Explosion | None:
    """Two atoms closer than CLOSEST sums of covalent radii, or None."""
    radii = covalent_radii[atoms.numbers]
    reach = float(2 * CLOSEST * radii.max())
    if atoms.pbc.any():
        one, other, distance = neighbor_list("ijd", atoms, reach)
    else:  # fifty times faster
        one, other = cKDTree(atoms.positions).query_pairs(reach, output_type="ndarray").T
        distance = np.linalg.norm(atoms.positions[one] - atoms.positions[other], axis=1)
    if not len(distance):
        return None
    ratio = distance / (radii[one] + radii[other])
    k = int(np.argmin(ratio))
    if ratio[k] >= CLOSEST:
        return None
    i, j = int(one[k]), int(other[k])
    return Explosion(
        f"atoms {i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]}) are {distance[k]:.2f} Å apart, less than "
        f"{CLOSEST:g} of the sum of their covalent radii: the structure has exploded",
        i,
        float(ratio[k]),
    )
