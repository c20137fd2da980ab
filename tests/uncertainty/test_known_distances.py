"""Distances that the training knows: gaps by hand, symmetries, the way through JSON."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import covalent_radii

from race_calc.data.graph import collate, from_atoms
from race_calc.uncertainty.known_distances import HOLE, KnownDistances, fit_known_distances
from race_calc.uncertainty.prediction import Prediction
from race_calc.uncertainty.score_values import NO_GAP
from race_calc.uncertainty.scores import all_scores
from race_calc.uncertainty.thresholds import auto_thresholds

CUTOFF = 4.0


def graph(atoms):
    return from_atoms(atoms, CUTOFF)


def dimer(*distances, symbols="CH"):
    return [graph(Atoms(symbols, positions=[[0, 0, 0], [0, 0, r]])) for r in distances]


def fitted(graphs):
    return fit_known_distances(graphs, CUTOFF, covalent_radii)


def test_intervals_end_at_holes():
    known = fitted(dimer(1.0, 1.005, 1.012, 1.1, 1.105))
    np.testing.assert_allclose(known.intervals[1, 6], [[1.0, 1.012], [1.1, 1.105]], atol=2e-4)
    assert known.intervals.keys() == {(1, 6)} and known.bonds[1, 6] == pytest.approx(covalent_radii[[1, 6]].sum())
    assert HOLE < 1.1 - 1.012


@pytest.mark.parametrize(
    "r, gap", [(1.05, 0.0), (1.0, 0.0), (1.1, 0.0), (0.9, 0.1), (1.3, 0.2), (2.9, 0.1), (2.2, 0.8), (3.5, 0.5), (3.99, 0.01)]
)
def test_the_gap_of_a_distance(r, gap):
    """Known: 1.0 to 1.1, 3.0, and all beyond 4 Å; the weight is (R/r)³ beyond a bond."""
    known = fitted(dimer(*np.arange(1.0, 1.1001, 0.005), 3.0))
    weight = min(1.0, covalent_radii[[1, 6]].sum() / r) ** 3
    np.testing.assert_allclose(known(dimer(r)[0]), 2 * [gap * weight], atol=2e-4)


def test_a_pair_of_elements_that_never_met_is_known_beyond_the_cutoff_only():
    known = fitted(dimer(1.0, 1.1))
    assert known(dimer(1.5, symbols="OO")[0])[0] == pytest.approx(CUTOFF - 1.5)
    assert known(dimer(5.0, symbols="OO")[0])[0] == 0.0
    assert known(graph(Atoms("C")))[0] == 0.0


def test_the_training_has_no_gaps_and_the_worst_atoms_are_named():
    random = np.random.default_rng(0)
    frames = []
    for _ in range(30):
        atoms = molecule("CH3CH2OH")
        atoms.positions += random.normal(scale=0.03, size=atoms.positions.shape)
        frames.append(atoms)
    known = fitted([graph(atoms) for atoms in frames])
    assert max(known(graph(atoms)).max() for atoms in frames) == 0.0
    stretched = molecule("CH3CH2OH")
    hydrogen = 3  # of the OH group
    oxygen = int(np.flatnonzero(stretched.numbers == 8)[0])
    stretched.set_distance(oxygen, hydrogen, stretched.get_distance(oxygen, hydrogen) - 0.2, fix=0)
    gaps = known(graph(stretched))
    assert set(np.argsort(-gaps)[:2]) == {oxygen, hydrogen} and gaps.max() > 0.05


def test_rotations_permutations_cells_and_batches():
    known = fitted([graph(molecule("CH3CH2OH"))])
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=1)
    gaps = known(graph(atoms))
    turned = atoms.copy()
    turned.rotate(50, (1, 2, 3))
    np.testing.assert_allclose(known(graph(turned)), gaps, atol=1e-9)
    order = np.random.default_rng(0).permutation(len(atoms))
    np.testing.assert_allclose(known(graph(atoms[order])), gaps[order], atol=1e-12)
    both = collate([graph(atoms), graph(turned)])
    np.testing.assert_allclose(known(both), [*gaps, *gaps], atol=1e-9)

    crystal = bulk("Cu", cubic=True)
    of_crystal = fitted([graph(crystal)])
    assert of_crystal(graph(crystal)).max() == 0.0
    crystal.set_cell(crystal.cell * 1.02, scale_atoms=True)
    assert 2 * covalent_radii[29] > 1.02 * 3.61 / np.sqrt(2)  # a bond counts fully
    assert of_crystal(graph(crystal)).max() == pytest.approx(0.02 * 3.61 / np.sqrt(2), rel=2e-3)


def test_through_json_and_damaged():
    known = fitted([graph(molecule("CH3CH2OH"))])
    again = KnownDistances.from_dict(json.loads(json.dumps(known.to_dict())), CUTOFF)
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=1)
    np.testing.assert_array_equal(again(graph(atoms)), known(graph(atoms)))
    assert KnownDistances.from_dict(None, CUTOFF) is None
    for spoil in ([[1.2, 1.0]], [[1.0, 5.0]], [], [[1.0, float("nan")]], [1.0, 2.0], [[-1.0, 1.0]]):
        content = known.to_dict()
        content["pairs"]["1-6"]["intervals"] = spoil
        with pytest.raises(ValueError):
            KnownDistances.from_dict(content, CUTOFF)
    for key, value in (("bond", float("inf")), ("bond", 0.0)):
        content = known.to_dict()
        content["pairs"]["1-6"][key] = value
        with pytest.raises(ValueError, match="with a bond"):
            KnownDistances.from_dict(content, CUTOFF)
    with pytest.raises(ValueError, match="cutoff"):
        KnownDistances.from_dict(known.to_dict(), 5.0)
    with pytest.raises(ValueError):
        KnownDistances.from_dict(known.to_dict() | {"pairs": ["1-6"]}, CUTOFF)


def test_a_cell_of_one_atom_and_heavy_elements():
    crystal = bulk("Cu")
    known = fitted([graph(crystal)])
    assert known(graph(crystal)).max() == 0.0
    crystal.set_cell(crystal.cell * 1.02, scale_atoms=True)
    assert known(graph(crystal)).max() == pytest.approx(0.02 * 3.61 / np.sqrt(2), rel=2e-3)
    heavy = fitted(dimer(1.5, 1.505, symbols=[100, 6]))
    assert heavy(dimer(1.5, symbols=[100, 6])[0]).max() == 0.0 < heavy(dimer(1.4, symbols=[100, 6])[0]).max()


def test_thresholds_where_nothing_or_little_is_new():
    """Zeros make no tail of their own, and none is no threshold of 0: below NO_GAP all is known."""
    random = np.random.default_rng(0)
    for n, share in ((20, 0.0), (20, 0.3), (50, 0.0), (50, 0.1), (50, 0.3), (100, 0.5)):
        gaps = np.where(random.uniform(size=n) < share, random.exponential(0.01, size=n), 0.0)
        told = Prediction(energy=np.zeros(n), forces=np.zeros((n, 3)), batch=np.arange(n), distance_gap=gaps)
        values, _ = all_scores(told)["distance_gap_max"]
        threshold = auto_thresholds({"distance_gap_max": values})["distance_gap_max"]
        assert values.min() == NO_GAP <= threshold < 0.5
