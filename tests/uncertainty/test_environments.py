"""Histograms of distances, angles and coordination numbers: by hand, symmetries, the way through JSON."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import covalent_radii

from race_calc.data.graph import collate, from_atoms
from race_calc.uncertainty.environments import KINDS, Environments, fit_environments, measure, ranges

CUTOFF = 4.0
DISTANCE, ANGLE, COORDINATION = KINDS


def graph(atoms):
    return from_atoms(atoms, CUTOFF)


def fitted(*structures):
    return fit_environments([graph(atoms) for atoms in structures], CUTOFF, covalent_radii)


def unknown(known, atoms):
    return known.unknown(graph(atoms), covalent_radii)


def test_water_by_hand():
    water = molecule("H2O")
    known = fitted(water)
    assert known.counts["distance"].keys() == {(1, 1), (1, 8)} and known.counts["distance"][1, 8].sum() == 2
    (angle,) = known.counts["angle"].items()
    assert angle[0] == (1, 8, 1) and np.flatnonzero(angle[1]).tolist() == [int(water.get_angle(1, 0, 2) // 2)] and angle[1].sum() == 1
    counted = {key: row.tolist() for key, row in known.counts["coordination"].items()}
    assert counted == {(8, 1): [0, 0, 1], (8, 8): [1], (1, 8): [0, 2], (1, 1): [2]}


@pytest.mark.parametrize("name", ("CH3CH2OH", "C6H6", "H2O"))
def test_all_angles_of_a_molecule(name):
    atoms = molecule(name)
    found = measure(graph(atoms), covalent_radii, np.unique(atoms.numbers))["angle"]
    bonds = atoms.get_all_distances() < 1.25 * (covalent_radii[atoms.numbers][:, None] + covalent_radii[atoms.numbers])
    expected = [
        (i, j, k) for j in range(len(atoms)) for i in range(len(atoms)) for k in range(i) if bonds[i, j] and bonds[j, k] and j not in (i, k)
    ]
    assert sorted((max(i, k), j, min(i, k)) for i, j, k in found.atoms.tolist()) == sorted(expected)
    np.testing.assert_allclose(found.values, [atoms.get_angle(*row) for row in found.atoms], atol=1e-6)
    assert (found.elements[:, 0] <= found.elements[:, 2]).all() and (found.elements == atoms.numbers[found.atoms]).all()


def test_a_crystal_whose_neighbours_are_its_own_images():
    found = measure(from_atoms(bulk("Cu"), 3.0), covalent_radii, np.array([29]))
    assert len(found["distance"].values) == 6 and found["coordination"].values.tolist() == [12]
    assert np.unique(found["angle"].values.round(4)).tolist() == [60, 90, 120, 180] and len(found["angle"].values) == 66


def test_what_was_there_is_known_and_nothing_depends_on_the_orientation():
    frames = []
    for seed in range(20):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.05, seed=seed)
        frames.append(atoms)
    known = fitted(*frames)
    assert not any(unknown(known, atoms) for atoms in frames)
    assert known.to_dict() == fit_environments([collate([graph(atoms) for atoms in frames])], CUTOFF, covalent_radii).to_dict()
    hot = molecule("CH3CH2OH")
    hot.rattle(0.3, seed=50)
    turned = hot.copy()
    turned.rotate(70, (1, 2, 3))
    told, again = unknown(known, hot), unknown(known, turned)
    assert told and [(one.atoms, one.kind) for one in told] == [(one.atoms, one.kind) for one in again]
    order = np.random.default_rng(0).permutation(len(hot))
    permuted = unknown(known, hot[order])
    assert sorted(one.excess for one in permuted) == pytest.approx(sorted(one.excess for one in told), rel=1e-6)


def test_a_stretched_bond_a_bent_angle_and_a_lost_neighbour():
    water = molecule("H2O")
    known = fitted(water)
    long = water.copy()
    long.set_distance(0, 1, 1.1, fix=0)
    far, bond, *_ = unknown(known, long)
    assert {far.atoms, bond.atoms} == {(0, 1), (1, 2)} and (far.kind, bond.kind) == (DISTANCE, DISTANCE)
    bent = water.copy()
    bent.set_angle(1, 0, 2, 90)
    (angle,) = [one for one in unknown(known, bent) if one.kind is ANGLE]
    assert angle.atoms[1] == 0 and angle.value == pytest.approx(90) and angle.known[0] == pytest.approx(102)
    lost = water.copy()
    lost.set_distance(0, 1, 2.0, fix=0)
    coordination = [one for one in unknown(known, lost) if one.kind is COORDINATION]
    assert {(one.atoms, one.elements, one.value, one.known) for one in coordination} == {
        ((0,), (8, 1), 1.0, (2.0, 2.0)),
        ((1,), (1, 8), 0.0, (1.0, 1.0)),
    }
    order = [KINDS.index(one.kind) for one in unknown(known, lost)]
    assert order == sorted(order)


def test_elements_that_never_met():
    known = fitted(molecule("H2O"), molecule("CH4"))
    methanol = unknown(known, molecule("CH3OH"))
    assert {(one.elements, one.value, one.known) for one in methanol if one.kind is COORDINATION and 1 not in one.elements} == {
        ((6, 8), 1.0, (0.0, 0.0)),
        ((8, 6), 1.0, (0.0, 0.0)),
    }
    never = [one for one in methanol if one.known is None]
    assert {one.elements for one in never if one.kind is DISTANCE} == {(6, 8)} and all(one.excess == np.inf for one in never)
    apart = Atoms("CH4OH2", np.concatenate([molecule("CH4").positions, molecule("H2O").positions + 9.0]))
    assert not unknown(known, apart)


def test_ranges_join_over_small_holes():
    assert ranges(DISTANCE, np.array([0, 1, 0, 0, 1, 0, 0, 0, 1])).tolist() == [[0.02, 0.1], [0.16, 0.18]]
    assert ranges(COORDINATION, np.array([0, 1, 1, 0, 5])).tolist() == [[1, 2], [4, 4]]
    assert ranges(ANGLE, None).shape == (0, 2)


def test_one_atom_and_none():
    known = fitted(Atoms("H"))
    assert not unknown(known, Atoms("H")) and known.counts["coordination"] == {(1, 1): np.array([1])}


def test_the_way_through_json():
    known = fitted(molecule("CH3CH2OH"), bulk("Si", cubic=True))
    again = Environments.from_dict(json.loads(json.dumps(known.to_dict())))
    assert again.cutoff == CUTOFF and again.counts.keys() == known.counts.keys()
    for name, rows in known.counts.items():
        assert rows.keys() == again.counts[name].keys()
        assert all(np.array_equal(np.trim_zeros(row, "b"), again.counts[name][key]) for key, row in rows.items())
    assert Environments.from_dict(None) is None


@pytest.mark.parametrize("row", ([], [3], [0, 1.5], [0, True], [0, -1, 2], [-1, 1], [10**9, 1], [0, 0], [0, 2**70], "ab"))
def test_a_damaged_row_is_refused(row):
    content = fitted(molecule("H2O")).to_dict()
    content["angle"]["1-8-1"] = row
    with pytest.raises((ValueError, TypeError)):
        Environments.from_dict(content)
    content["angle"] = {"1-8": [0, 1]}
    with pytest.raises(ValueError, match="angle histogram of 1-8"):
        Environments.from_dict(content)
