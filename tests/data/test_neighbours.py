"""Neighbour pairs against ASE, and the structures that cannot be evaluated."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from hypothesis import given, note, settings
from hypothesis import strategies as st

from race_calc.data import neighbours
from race_calc.data.neighbours import LARGEST_EXTENT, check_structure, neighbour_pairs


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
        check_structure(other)
        assert pairs(*neighbour_pairs(other, 5.0)) == expected


def test_self_images_come_in_both_directions():
    atoms = Atoms("C", cell=np.eye(3) * 2, pbc=True)
    found = pairs(*neighbour_pairs(atoms, 2.1))
    assert found == sorted((0, 0, *(sign * np.eye(3, dtype=int)[k])) for k in range(3) for sign in (1, -1))


@pytest.mark.parametrize(
    "atoms, message",
    [
        (Atoms(), "no atoms"),
        (Atoms("CH", positions=[[0, 0, 0], [0, np.nan, 0]]), "atom 1 are not finite"),
        (Atoms("CH", positions=[[0, 0, -np.inf], [0, 1, 0]]), "atom 0 are not finite"),
        (Atoms("C", cell=[np.nan, 4, 4], pbc=True), "cell is not finite"),
        (Atoms("C", pbc=True), "cell vector 0 but that vector is zero"),
        (Atoms("C", cell=[4, 4, 0], pbc=True), "cell vector 2 but that vector is zero"),
        (Atoms("C", cell=[[4, 0, 0], [8, 0, 0], [0, 0, 4]], pbc=True), "linearly dependent"),
        (Atoms("C", cell=[[4, 0, 0], [8, 0, 0], [0, 0, 0]], pbc=[True, True, False]), "linearly dependent"),
        # numerically flat: rank 3 by a rounding error
        (Atoms("C", cell=[[4, 0, 0], [4, 1e-12, 0], [0, 0, 4]], pbc=True), "linearly dependent"),
    ],
)
def test_structures_that_cannot_be_evaluated(atoms, message):
    with pytest.raises(ValueError, match=message):
        check_structure(atoms)


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


def test_atoms_are_not_changed():
    atoms = Atoms("CH", positions=[[9, 0, 0], [0, -5, 0]], cell=[[3, 0, 0], [0, 3, 0], [0, 0, 0]], pbc=[1, 1, 0])
    before = atoms.copy()
    check_structure(atoms)
    neighbour_pairs(atoms, 4.0)
    assert atoms == before


def test_flying_apart_is_refused_at_the_stated_distance():
    """1e5 Å; along periodic directions no distance is too large."""
    far = Atoms("H2", [[0, 0, 0], [LARGEST_EXTENT, 0, 0]])
    check_structure(far)
    far.positions[1, 0] *= 1.0001
    with pytest.raises(ValueError, match="atoms 0 and 1 are 1e\\+05 Å apart"):
        check_structure(far)
    far.set_cell([3.0, 0, 0])
    far.pbc = [True, False, False]
    check_structure(far)


def test_collapsed_cells_are_refused_by_the_number_of_pairs(monkeypatch):
    """N² 4/3 π r³/V, here with a limit of 1,000 that can be held."""
    assert neighbours.MOST_PAIRS == 1e8
    monkeypatch.setattr(neighbours, "MOST_PAIRS", 1000)
    edge = (2**2 * 4 / 3 * np.pi * 4.0**3 / 1000) ** (1 / 3)
    for factor, refused in ((0.99, True), (1.01, False)):
        atoms = Atoms("H2", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=factor * edge * np.eye(3), pbc=True)
        if refused:
            with pytest.raises(ValueError, match="2 atoms in a cell of .* have about 1e\\+03 pairs"):
                neighbour_pairs(atoms, 4.0)
        else:
            assert len(neighbour_pairs(atoms, 4.0)[0]) == pytest.approx(1000, rel=0.1)


def test_short_cell_vectors_have_a_stated_limit():
    for length, message in ((0.9e-6, "zero"), (1.1e-6, None)):
        atoms = Atoms("H", cell=[length, 0, 0], pbc=[True, False, False])
        if message is None:
            check_structure(atoms)
        else:
            with pytest.raises(ValueError, match=message):
                check_structure(atoms)


def test_nearly_dependent_cell_vectors_have_a_stated_limit():
    """The smallest singular value of a unit vector and one at the small angle a to it is a/√2."""
    for smallest, refused in ((0.9e-6, True), (1.1e-6, False)):
        atoms = Atoms("H", cell=[[1, 0, 0], [1, smallest * np.sqrt(2), 0], [0, 0, 0]], pbc=[True, True, False])
        if refused:
            with pytest.raises(ValueError, match="linearly dependent"):
                check_structure(atoms)
        else:
            check_structure(atoms)
