"""Neighbour pairs against ASE, and the structures that cannot be evaluated."""

import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from hypothesis import given, note, settings
from hypothesis import strategies as st

from race_calc.data import neighbours
from race_calc.data.neighbours import neighbour_pairs
from race_calc.data.structure import checked


def pairs(centre, neighbour, shifts, _=None) -> list[tuple[int, ...]]:
    return sorted((int(i), int(j), *map(int, s)) for i, j, s in zip(centre, neighbour, shifts))


def check_against_ase(atoms: Atoms, cutoff: float) -> int:
    """Same pairs as ASE; returns their number. At the very cutoff (1e-9 Å) rounding decides, so not there."""
    centre, neighbour, shifts, pair = neighbour_pairs(atoms, cutoff)
    assert (np.diff(centre) >= 0).all()
    assert centre.dtype == neighbour.dtype == shifts.dtype == pair.dtype == np.int64
    order = np.argsort(pair, kind="stable").reshape(-1, 2)  # both directions of every pair
    assert (pair[order] == np.arange(len(order))[:, None]).all()
    one, other = order.T
    assert (centre[one] == neighbour[other]).all() and (neighbour[one] == centre[other]).all()
    assert (shifts[one] == -shifts[other]).all()
    assert not shifts[:, ~atoms.pbc].any()
    vectors = atoms.positions[neighbour] - atoms.positions[centre] + shifts @ atoms.cell.array
    distance = np.linalg.norm(vectors, axis=1)
    assert (distance < cutoff + 1e-9).all()
    i, j, s, d = neighbor_list("ijSd", atoms, cutoff)
    mine, theirs = distance < cutoff - 1e-9, d < cutoff - 1e-9
    assert pairs(centre[mine], neighbour[mine], shifts[mine]) == pairs(i[theirs], j[theirs], s[theirs])
    return len(centre)


@st.composite
def structures(draw) -> Atoms:
    """Random atoms, in and outside of a random cell (down to 1.5 Å and sharp angles), any periodicity."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    lengths = np.array(draw(st.tuples(*[st.floats(1.5, 9.0)] * 3)))
    skew = draw(st.floats(0.0, 0.8))
    cell = np.diag(lengths) + skew * np.tril(rng.uniform(-1, 1, (3, 3)), -1) * lengths
    cell = cell @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if draw(st.booleans()):  # directions that are not periodic need no cell vector
        cell[~np.array(pbc)] = 0
    n = draw(st.integers(1, 6))
    return Atoms(f"C{n}", positions=rng.uniform(-6, 12, (n, 3)), cell=cell, pbc=pbc)


@settings(max_examples=60, deadline=None)
@given(structures(), st.floats(1.0, 5.0))
def test_pairs_are_those_of_ase(atoms, cutoff):
    note(
        f"cutoff = {cutoff!r}; Atoms('C{len(atoms)}', positions={atoms.positions.tolist()!r}, "
        f"cell={atoms.cell.array.tolist()!r}, pbc={atoms.pbc.tolist()!r})"
    )
    check_against_ase(atoms, cutoff)


@pytest.mark.parametrize(
    "atoms, count",
    [
        (Atoms("C"), 0),
        (Atoms("C", cell=[9, 9, 9], pbc=True), 0),
        (Atoms("C", cell=[3, 9, 9], pbc=[True, False, False]), 2),
        (bulk("Cu", a=3.6), 12 + 6 + 24),  # one atom, neighbours are its own images
    ],
    ids=["one atom", "one atom in a large cell", "one atom in a chain", "copper"],
)
def test_small_cases(atoms, count):
    assert check_against_ase(atoms, 4.6) == count


def test_cell_vectors_that_are_not_periodic_do_not_matter():
    atoms = Atoms("CH", positions=[[0, 0, 0], [1, 1, 1]], cell=[[4, 0, 0], [0, 4, 0], [0, 0, 0]], pbc=[1, 1, 0])
    expected = pairs(*neighbour_pairs(atoms, 5.0))
    for third in ([4, 4, 0], [0, 0, 0.01], [1, 2, -300]):
        other = atoms.copy()
        other.cell[2] = third
        checked(other)
        assert pairs(*neighbour_pairs(other, 5.0)) == expected


def test_self_images_come_in_both_directions():
    atoms = Atoms("C", cell=np.eye(3) * 2, pbc=True)
    found = pairs(*neighbour_pairs(atoms, 2.1))
    assert found == sorted((0, 0, *(sign * np.eye(3, dtype=int)[k])) for k in range(3) for sign in (1, -1))


@pytest.mark.parametrize(
    "atoms",
    [
        Atoms("CH", positions=[[0, 0, 0], [0, 0, 0]]),
        Atoms("CH", positions=[[0, 0, 0], [4, 0, 0]], cell=[4, 4, 4], pbc=True),  # on an image
        Atoms("CH", positions=[[0, 0, 0], [0, 1e-5, 0]]),
    ],
)
def test_two_atoms_on_one_place(atoms):
    with pytest.raises(ValueError, match=r"atoms 0 \(C\) and 1 \(H\) lie on one place"):
        neighbour_pairs(atoms, 3.0)


def ring(n: int = 6) -> Atoms:
    angle = 2 * np.pi * np.arange(n) / n
    return Atoms(f"C{n}", positions=1.4 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1), cell=[7, 7, 9], pbc=(1, 1, 0))


@pytest.mark.parametrize("far", [[7e4, -1.4e5, 0], [7e4, 0, 9e4]], ids=["along periodic directions", "along a free one, too"])
def test_an_atom_ten_thousand_cells_away_is_found_at_once(far):
    atoms = ring()
    atoms.positions[2] += far
    began = time.perf_counter()
    found = pairs(*neighbour_pairs(atoms, 5.0))
    assert time.perf_counter() - began < 1
    cells = np.array([10_000, 0 if far[1] == 0 else -20_000, 0])
    expected = [
        (i, j, *(np.array(s) + cells * ((i == 2) - (j == 2))))
        for i, j, *s in pairs(*neighbour_pairs(ring(), 5.0))
        if not far[2] or (i == 2) == (j == 2)
    ]
    assert found == sorted(expected)


def test_a_long_thin_cell_with_vacuum_is_like_one_that_is_not_periodic():
    atoms = ring()
    atoms.set_cell([9e5, 9, 9])
    atoms.pbc = True
    free = atoms.copy()
    free.pbc = False
    assert pairs(*neighbour_pairs(atoms, 5.0)) == pairs(*neighbour_pairs(free, 5.0))


@pytest.mark.parametrize("shear", [3, 1000])
def test_a_sheared_cell_is_the_same_lattice(shear):
    atoms = bulk("Cu", a=3.6)
    other = atoms.copy()
    other.cell[1] += shear * atoms.cell[0]
    vectors = [np.sort(np.linalg.norm(s @ x.cell.array, axis=1)) for x in (atoms, other) for s in [neighbour_pairs(x, 6.0)[2]]]
    np.testing.assert_allclose(*vectors, atol=1e-9)


def test_too_many_pairs_are_counted_before_they_are_searched():
    rng = np.random.default_rng(0)
    dense = Atoms(numbers=np.full(100_000, 6), positions=rng.uniform(0, 8, (100_000, 3)))
    with pytest.raises(ValueError, match=r"100000 atoms have about 5.\de\+09 pairs within 5.5 Å, 5\d+ neighbours each: more than 1 atom"):
        neighbour_pairs(dense, 5.5)
    with pytest.raises(ValueError, match="collapsed or has another unit"):
        neighbour_pairs(Atoms("C", cell=[0.1] * 3, pbc=True), 5.5)
    with pytest.raises(ValueError, match=r"as thin as 1e-05 Å: 1 atoms have .* images within 5.5 Å .*collapsed"):
        neighbour_pairs(Atoms("C", cell=[1e-5, 10, 10], pbc=True), 5.5)


def test_more_pairs_than_memory_holds_are_refused(monkeypatch):
    monkeypatch.setattr(neighbours, "MOST_PAIRS", 500_000)
    with pytest.raises(
        ValueError, match=r"8000 atoms have about 6.\de\+05 pairs within 5.0 Å, 8\d neighbours each; at most 5e\+05 fit in 2 GiB"
    ):
        neighbour_pairs(bulk("C", cubic=True) * (10, 10, 10), 5.0)


def test_atoms_are_not_changed():
    atoms = Atoms("CH", positions=[[9, 0, 0], [0, -5, 0]], cell=[[3, 0, 0], [0, 3, 0], [0, 0, 0]], pbc=[1, 1, 0])
    before = atoms.copy()
    checked(atoms)
    neighbour_pairs(atoms, 4.0)
    assert atoms == before


def test_short_cell_vectors_have_a_stated_limit():
    for length, message in ((0.9e-6, "zero"), (1.1e-6, None)):
        atoms = Atoms("H", cell=[length, 0, 0], pbc=[True, False, False])
        if message is None:
            checked(atoms)
        else:
            with pytest.raises(ValueError, match=message):
                checked(atoms)


def test_nearly_dependent_cell_vectors_have_a_stated_limit():
    """The smallest singular value of a unit vector and one at the small angle a to it is a/√2."""
    for smallest, refused in ((0.9e-6, True), (1.1e-6, False)):
        atoms = Atoms("H", cell=[[1, 0, 0], [1, smallest * np.sqrt(2), 0], [0, 0, 0]], pbc=[True, True, False])
        if refused:
            with pytest.raises(ValueError, match="linearly dependent"):
                checked(atoms)
        else:
            checked(atoms)
