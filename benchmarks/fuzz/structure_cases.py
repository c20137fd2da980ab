"""Mutations of structures, and what each of them means; `structures.py` runs them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixBondLength
from ase.geometry import minkowski_reduce


@dataclass
class Case:
    """`given`: what is evaluated. `meant`: a plain structure with the same energy, None where the given one must be refused.

    order, turn: given forces = meant forces[order] @ turn. `must`: a refusal is a fault.
    """

    given: Atoms
    meant: Atoms | None
    must: bool = False
    order: np.ndarray | None = None
    turn: np.ndarray = field(default_factory=lambda: np.eye(3))


def _some(rng, atoms: Atoms) -> np.ndarray:
    return rng.random(len(atoms)) < 0.5


def _cells(rng, atoms: Atoms, most: float) -> np.ndarray:
    """(N, 3) shifts by whole lattice vectors of some atoms; of none without periodicity."""
    whole = np.rint(rng.uniform(-most, most, (len(atoms), 3))) * atoms.pbc * _some(rng, atoms)[:, None]
    return whole @ atoms.cell.array


def moved_by_cells(rng, atoms: Atoms) -> Case:
    meant = atoms.copy()
    most = 10 ** rng.uniform(0, rng.choice([5, 18]))
    atoms.positions += _cells(rng, atoms, most)
    return Case(atoms, meant, must=bool(np.abs(atoms.positions).max() < 9e5))


def drifted(rng, atoms: Atoms) -> Case:
    meant, far = atoms.copy(), 10 ** rng.uniform(-3, 12)
    atoms.positions += rng.uniform(-far, far, 3)
    return Case(atoms, meant, must=far < 3e5)


def permuted(rng, atoms: Atoms) -> Case:
    order = rng.permutation(len(atoms))
    return Case(atoms[order], atoms.copy(), True, order)


def turned(rng, atoms: Atoms) -> Case:
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]  # also reflections
    meant = atoms.copy()
    atoms.set_cell(atoms.cell.array @ turn)
    atoms.positions = atoms.positions @ turn
    return Case(atoms, meant, True, turn=turn)


def another_cell_of_the_lattice(rng, atoms: Atoms) -> Case:
    """Integer shears along periodic vectors, small and large, other order and handedness; or Minkowski-reduced; or wrapped."""
    meant, axes, cell = atoms.copy(), np.flatnonzero(atoms.pbc), atoms.cell.array.copy()
    most = int(10 ** rng.uniform(0.4, 4))
    if len(axes) > 1:
        for _ in range(rng.integers(1, 4)):
            a, b = rng.permutation(axes)[:2]
            cell[a] += rng.integers(-most, most + 1) * cell[b]
    for a in axes:
        cell[a] *= rng.choice([-1, 1])
    cell[axes] = cell[rng.permutation(axes)]
    if rng.random() < 0.2 and atoms.pbc.all():
        cell = minkowski_reduce(cell)[0]
    atoms.set_cell(cell)
    if rng.random() < 0.5 and most < 10:
        atoms.wrap()
    return Case(atoms, meant, must=most < 10 and len(axes) > 0)


def other_free_vectors(rng, atoms: Atoms) -> Case:
    meant, cell = atoms.copy(), atoms.cell.array.copy()
    cell[~atoms.pbc] = rng.normal(size=(3, 3))[~atoms.pbc] * 10 ** rng.uniform(-9, 9)
    atoms.set_cell(cell)
    return Case(atoms, meant, must=bool(np.abs(cell).max() < 9e5))


def repeated(rng, atoms: Atoms) -> Case:
    many = np.where(atoms.pbc, rng.integers(1, 3, 3), 1)
    given = atoms.repeat(many)
    return Case(given, given.copy(), True)


def other_arrays(rng, atoms: Atoms) -> Case:
    """The same numbers in another layout or type."""
    x, z, meant = atoms.positions.copy(), atoms.numbers.copy(), atoms.copy()
    ways: list[Callable] = [
        np.asfortranarray, lambda x: x.astype(">f8"), lambda x: np.repeat(x, 3, axis=0)[::3], np.ma.array,
        lambda x: x.astype(np.longdouble), lambda x: x[::-1].copy()[::-1], np.asmatrix,
    ]  # fmt: skip
    if rng.random() < 0.5:
        atoms.arrays["positions"] = ways[rng.integers(len(ways))](x)
        return Case(atoms, meant, must=True)
    atoms.arrays["numbers"] = z.astype(rng.choice(["u1", "i1", ">i4", "i2", "f8", "f4", "u8", ">f8", "f2"]))
    return Case(atoms, meant, must=True)


def rounded(rng, atoms: Atoms) -> Case:
    kind = rng.choice(["f4", "f2", ">f4", "i4", "i8", "u4", "u1"])
    x = atoms.positions - (atoms.positions.min() if kind[0] == "u" else 0)
    x = np.rint(2 * x) if kind[0] in "iu" else x
    atoms.arrays["positions"] = x.astype(kind)
    meant = atoms.copy()
    meant.arrays["positions"] = np.array([[float(c) for c in row] for row in x.astype(kind)])
    return Case(atoms, meant)


def no_numbers(rng, atoms: Atoms) -> Case:
    """Arrays that are no positions or atomic numbers."""
    x, z, n = atoms.positions, atoms.numbers, len(atoms)
    ways = {
        "positions": [
            x + 0j, x.astype(object), x.astype(str), x > 0, x[:, :2].copy(), x.reshape(-1).copy(), x[None],
            np.ma.array(x, mask=x >= x.max()), np.concatenate([x, x[:1] + 9]), x.astype(object) * np.nan, x.astype("S9"), x.astype("m8[s]"),
            np.zeros((n, 3, 1)),
        ],
        "numbers": [
            z + 0.5, -z, z + 200, z * 0, z * np.nan, z + 0j, z.astype(object), z.astype(str), z > 0, z[:, None], np.append(z, 1), z * 1e300,
            np.where(np.arange(n) == 0, 119, z), np.full(n, 79), z.astype("i8") * 2**58, np.ma.array(z, mask=z == z[0]), z * np.inf,
        ],
    }  # fmt: skip
    name = str(rng.choice(list(ways)))
    atoms.arrays[name] = ways[name][rng.integers(len(ways[name]))]
    return Case(atoms, None)


def not_finite(rng, atoms: Atoms) -> Case:
    bad = rng.choice([np.nan, np.inf, -np.inf])
    if rng.random() < 0.7:
        atoms.positions[rng.integers(len(atoms)), rng.integers(3)] = bad
    else:
        cell = atoms.cell.array.copy()
        cell[rng.integers(3), rng.integers(3)] = bad
        atoms.cell[:] = cell
    return Case(atoms, None)


def huge(rng, atoms: Atoms) -> Case:
    atoms.positions[rng.integers(len(atoms)), rng.integers(3)] = rng.choice([-1, 1]) * 10 ** rng.uniform(3, 308)
    return Case(atoms, atoms.copy())


def tiny(rng, atoms: Atoms) -> Case:
    atoms.positions[_some(rng, atoms), rng.integers(3)] = rng.choice([0.0, -0.0, 1e-320, -1e-300, 1e-17, 1e-9])
    return Case(atoms, atoms.copy())


def shaken(rng, atoms: Atoms) -> Case:
    atoms.positions += rng.normal(scale=10 ** rng.uniform(-13, 1), size=(len(atoms), 3))
    return Case(atoms, atoms.copy())


def overlapping(rng, atoms: Atoms) -> Case:
    near, direction = atoms[[rng.integers(len(atoms))]], rng.normal(size=3)
    near.positions += direction / np.linalg.norm(direction) * rng.choice([0, 1e-13, 1e-5, 9e-4, 1.1e-3, 0.01, 0.1, 0.4])
    near.positions += _cells(rng, near, 3)
    given = atoms + near
    return Case(given, given.copy())


def cell_scaled(rng, atoms: Atoms) -> Case:
    factor = 10 ** rng.uniform(-9, 9) if rng.random() < 0.5 else 10 ** rng.uniform(-1, 1)
    cell = atoms.cell.array.copy()
    rows = slice(None) if rng.random() < 0.5 else [rng.integers(3)]
    cell[rows] *= factor
    atoms.set_cell(cell, scale_atoms=bool(rng.random() < 0.5 and atoms.cell.rank == 3))
    return Case(atoms, atoms.copy())


def cell_huge(rng, atoms: Atoms) -> Case:
    atoms.set_cell(np.diag(10 ** rng.uniform(2, 307, 3)))
    atoms.pbc = rng.random(3) < 0.7
    return Case(atoms, atoms.copy())


def cell_any(rng, atoms: Atoms) -> Case:
    """Random, flat, nearly flat, zero and left-handed cells of any periodicity."""
    cell = rng.normal(scale=10 ** rng.uniform(-0.5, 1.5), size=(3, 3))
    way = rng.integers(5)
    if way == 1:
        cell[rng.integers(3)] = 0
    elif way > 1:
        cell[0] = (
            cell[1] * rng.uniform(-2, 2)
            + cell[2] * rng.uniform(-2, 2)
            + rng.normal(size=3) * (0 if way == 2 else 10 ** rng.uniform(-14, 0))
        )
    atoms.set_cell(cell)
    atoms.pbc = rng.random(3) < 0.7
    return Case(atoms, atoms.copy())


def cell_wrong_shape(rng, atoms: Atoms) -> Case:
    atoms.cell.array = [np.zeros((2, 3)), np.eye(3) * 1j, np.eye(3).astype(object), np.zeros(3), np.eye(4)][rng.integers(5)]
    return Case(atoms, None)


def other_periodicity(rng, atoms: Atoms) -> Case:
    atoms.pbc = rng.random(3) < 0.5
    return Case(atoms, atoms.copy())


def far_fragment(rng, atoms: Atoms) -> Case:
    other, far = atoms.copy(), 10 ** rng.uniform(1.5, 8)
    other.positions += np.where(rng.random(3) < 0.6, far, 0) * rng.choice([-1, 1], 3)
    given = atoms + other
    return Case(given, given.copy())


def crowd(rng, atoms: Atoms) -> Case:
    """Up to 200 atoms in little room or in much, and up to 100,000 in too little."""
    n = int(10 ** rng.uniform(1, 5))
    room = 10 ** rng.uniform(-2, 5) if n <= 200 else (n / 10 ** rng.uniform(0.3, 5)) ** (1 / 3)
    given = Atoms(numbers=np.full(n, 6), positions=rng.uniform(0, room, (n, 3)), cell=[room] * 3, pbc=rng.random(3) < 0.5)
    return Case(given, given.copy())


def few(rng, atoms: Atoms) -> Case:
    given = atoms[: rng.integers(0, 3)]
    return Case(given, given.copy() if len(given) else None)


def harmless(rng, atoms: Atoms) -> Case:
    """What the model does not see."""
    meant, n = atoms.copy(), len(atoms)
    atoms.set_velocities(rng.normal(size=(n, 3)) * rng.choice([1, np.nan, 1e300]))
    atoms.set_tags(rng.integers(-9, 9, n))
    atoms.set_initial_charges(rng.normal(size=n))
    atoms.set_celldisp(rng.normal(size=3))
    atoms.set_constraint([FixAtoms([0]), *([FixBondLength(0, 1)] if n > 1 else [])])
    atoms.info["note"] = "a 'quoted' \n line"
    return Case(atoms, meant, True)


MUTATIONS = (
    moved_by_cells, moved_by_cells, drifted, permuted, turned, another_cell_of_the_lattice, other_free_vectors, repeated,
    other_arrays, rounded, no_numbers, not_finite, huge, tiny, shaken, overlapping, cell_scaled, cell_huge, cell_any, cell_wrong_shape,
    other_periodicity, far_fragment, crowd, few, harmless,
)  # fmt: skip
