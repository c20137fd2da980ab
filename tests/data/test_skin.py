"""The list with a skin gives the pairs of a fresh search, and is kept exactly as long as that is certain."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from race_calc import RACECalculator
from race_calc.data.graph import from_atoms, from_atoms_with_skin
from race_calc.data.neighbours import neighbour_pairs
from race_calc.data.skin import SKIN, holds, pairs_within, updated

CUTOFF = 3.0


def as_set(centre, neighbour, shifts, pair) -> set[tuple[int, ...]]:
    assert (np.diff(centre) >= 0).all()
    order = np.argsort(pair, kind="stable").reshape(-1, 2)
    assert (pair[order] == np.arange(len(order))[:, None]).all()
    assert (centre[order[:, 0]] == neighbour[order[:, 1]]).all()
    return {(int(i), int(j), *map(int, s)) for i, j, s in zip(centre, neighbour, shifts)}


def check(known, atoms: Atoms) -> None:
    assert as_set(*pairs_within(known, atoms, CUTOFF)) == as_set(*neighbour_pairs(atoms, CUTOFF))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.6), st.floats(0, 0.1), st.sampled_from(["crystal", "slab", "molecule"]))
def test_kept_lists_miss_no_pair(seed, size, strain, kind):
    """Random displacements and strains, small and large; wherever the list says that it holds, it does."""
    rng = np.random.default_rng(seed)
    atoms = {"crystal": bulk("Cu", a=3.7), "slab": bulk("Cu", a=3.7), "molecule": molecule("CH3CH2OH")}[kind]
    if kind != "molecule":
        atoms = atoms.repeat((2, 1, 1))
    if kind == "slab":
        atoms.pbc = (True, True, False)
    atoms.rattle(0.1, rng=rng)
    known = updated(None, atoms, CUTOFF)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain * rng.uniform(-1, 1, (3, 3))), scale_atoms=True)
    atoms.positions += rng.uniform(-size, size, (len(atoms), 3)) + rng.normal(size=3)  # a drift of all is no matter
    if holds(known, atoms, CUTOFF):
        check(known, atoms)
    check(updated(known, atoms, CUTOFF), atoms)


def test_kept_until_an_atom_moved_half_the_skin():
    atoms = molecule("CH3CH2OH")
    known = updated(None, atoms, CUTOFF)
    n = len(atoms)
    atoms.positions[0, 0] += 0.45 * SKIN * n / (n - 1)  # measured from the mean displacement
    assert updated(known, atoms, CUTOFF) is known
    atoms.positions[0, 0] += 0.1 * SKIN * n / (n - 1)
    assert updated(known, atoms, CUTOFF) is not known


def test_a_drift_keeps_the_list():
    atoms = molecule("CH3CH2OH")
    known = updated(None, atoms, CUTOFF)
    atoms.positions += 100.0
    assert updated(known, atoms, CUTOFF) is known


@pytest.mark.parametrize("change", ["wrap", "pbc", "cell of a slab", "an atom more", "collapse"])
def test_made_anew(change):
    atoms = bulk("Cu", a=3.7, cubic=True)
    if change == "cell of a slab":
        atoms.pbc = (True, True, False)
    atoms.positions[1] += 3.69
    known = updated(None, atoms, CUTOFF)
    if change == "wrap":
        atoms.wrap()
    elif change == "pbc":
        atoms.pbc = (True, False, True)
    elif change == "cell of a slab":
        atoms.set_cell(atoms.cell.array * 1.001)
    elif change == "an atom more":
        atoms += Atoms("Cu", positions=[[1, 1, 1]])
    else:
        atoms.set_cell(atoms.cell.array * 0.8, scale_atoms=True)
    fresh = updated(known, atoms, CUTOFF)
    assert fresh is not known
    check(fresh, atoms)


def test_small_changes_of_the_cell_keep_it():
    atoms = bulk("Cu", a=3.7, cubic=True)
    known = updated(None, atoms, CUTOFF)
    atoms.set_cell(atoms.cell.array * 1.01, scale_atoms=True)
    assert updated(known, atoms, CUTOFF) is known
    check(known, atoms)


def test_a_slab_keeps_its_list_until_its_cell_changes():
    cell = np.array([[5.0, 0.3, 0.2], [0.4, 5.0, 0.1], [0.2, 0.3, 5.0]])  # no entry stays the same
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [2.0, 2.0, 1.0]], cell=cell, pbc=(True, True, False))
    known = updated(None, atoms, CUTOFF)
    atoms.positions[1, 0] += 0.01
    assert updated(known, atoms, CUTOFF) is known
    atoms.set_cell(1.001 * cell)
    assert updated(known, atoms, CUTOFF) is not known


def test_another_species_needs_no_new_list():
    atoms = molecule("CH3CH2OH")
    graph, known = from_atoms_with_skin(atoms, CUTOFF, None)
    atoms.numbers[0] = 7
    other, same = from_atoms_with_skin(atoms, CUTOFF, known)
    assert same is known and other.numbers[0] == 7 and graph.numbers[0] == 6


def test_atoms_that_meet_inside_the_skin_are_found():
    atoms = Atoms("HH", positions=[[0, 0, 0], [0, 0, 0.3]])
    _, known = from_atoms_with_skin(atoms, CUTOFF, None)
    atoms.positions[1, 2] = 1e-4
    assert updated(known, atoms, CUTOFF) is known
    with pytest.raises(ValueError, match="lie on one place"):
        from_atoms_with_skin(atoms, CUTOFF, known)


def test_the_calculator_gives_the_same_with_and_without(tiny_model):
    rng = np.random.default_rng(0)
    atoms, calculator = molecule("CH3CH2OH"), RACECalculator(tiny_model)
    for _ in range(4):
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        kept = calculator.get_property("forces", atoms)
        fresh = calculator.posterior.predict(from_atoms(atoms, calculator.checkpoint.model.plan.config.cutoff)).forces
        np.testing.assert_allclose(kept, fresh, rtol=0, atol=1e-12 * np.abs(fresh).max())
