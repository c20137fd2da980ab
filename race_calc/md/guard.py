"""Structures that have plainly exploded: no model need be asked. Uses ASE's covalent radii and vesin."""

from dataclasses import dataclass

import numpy as np
import vesin
from ase import Atoms
from ase.data import covalent_radii

from race_calc.prediction import Prediction

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
    for name, values in (("position", atoms.positions), ("force", prediction.forces)):
        broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(broken):
            return Explosion(f"the {name} of atom {broken[0]} ({atoms.symbols[broken[0]]}) is not finite", int(broken[0]))
    if not np.isfinite(prediction.energy).all():
        return Explosion("the energy is not finite", None)
    return _too_close(atoms)


def _too_close(atoms: Atoms) -> Explosion | None:
    radii = covalent_radii[atoms.numbers]
    box = atoms.cell.complete().array if atoms.pbc.any() else np.zeros((3, 3))
    pairs = vesin.NeighborList(cutoff=float(2 * CLOSEST * radii.max()), full_list=False)
    one, other, distance = pairs.compute(points=atoms.positions, box=box, periodic=np.asarray(atoms.pbc), quantities="ijd")
    if not len(distance):
        return None
    ratio = distance / (radii[one] + radii[other])
    k = int(np.argmin(ratio))
    if ratio[k] >= CLOSEST:
        return None
    i, j = int(one[k]), int(other[k])
    return Explosion(f"atoms {i} ({atoms.symbols[i]}) and {j} ({atoms.symbols[j]}) are {distance[k]:.2f} Å apart, less than "
                     f"{CLOSEST:g} of the sum of their covalent radii: the structure has exploded", i, float(ratio[k]))
