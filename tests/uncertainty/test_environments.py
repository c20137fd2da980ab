"""Histograms of distances, angles and coordination numbers: by hand, symmetries, what is unknown and rare, the way through JSON."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import covalent_radii

from race_calc.data.graph import collate, from_atoms
from race_calc.uncertainty.environments import Environments, fit_environments, ranges
from race_calc.uncertainty.geometry import ANGLE, COORDINATION, DISTANCE, KINDS, measure

CUTOFF = 4.0


def graph(atoms):
    return from_atoms(atoms, CUTOFF)


def fitted(*structures):
    return of_graphs([graph(atoms) for atoms in structures])


def of_graphs(graphs):
    return fit_environments(graphs, np.unique(np.concatenate([one.numbers for one in graphs])), CUTOFF, covalent_radii)


def compared(known, atoms):
    return known.compare(graph(atoms), covalent_radii)


def unknown(known, atoms, *kinds):
    return [one for one in compared(known, atoms).unknown if not kinds or one.kind in kinds]


def measured(atoms, cutoff=CUTOFF):
    return measure(from_atoms(atoms, cutoff), covalent_radii, np.unique(atoms.numbers))


def stretched(length):
    water = molecule("H2O")
    water.set_distance(0, 1, length, fix=0)
    return water


def test_water_by_hand():
    water = molecule("H2O")
    known = fitted(water)
    assert known.counts["distance"].keys() == {(1, 1), (1, 8)} and known.counts["distance"][1, 8].sum() == 2
    (angle,) = known.counts["angle"].items()
    assert angle[0] == (1, 8, 1) and np.flatnonzero(angle[1]).tolist() == [int(water.get_angle(1, 0, 2) // 2)] and angle[1].sum() == 1
    counted = {key: row.tolist() for key, row in known.counts["coordination"].items()}
    assert counted == {(8, 1): [0, 0, 1], (8, 8): [1], (1, 8): [0, 2], (1, 1): [2]}
    assert known.elements.tolist() == [1, 8]


@pytest.mark.parametrize("name", ("CH3CH2OH", "C6H6", "H2O"))
def test_all_angles_of_a_molecule(name):
    atoms = molecule(name)
    found = measured(atoms)["angle"]
    bonds = atoms.get_all_distances() < 1.25 * (covalent_radii[atoms.numbers][:, None] + covalent_radii[atoms.numbers])
    all_of_them = range(len(atoms))
    expected = [(i, j, k) for j in all_of_them for i in all_of_them for k in range(i) if bonds[i, j] and bonds[j, k] and j not in (i, k)]
    assert sorted((max(i, k), j, min(i, k)) for i, j, k in found.atoms.tolist()) == sorted(expected)
    np.testing.assert_allclose(found.values, [atoms.get_angle(*row) for row in found.atoms], atol=1e-6)
    assert (found.elements[:, 0] <= found.elements[:, 2]).all() and (found.elements == atoms.numbers[found.atoms]).all()


def test_a_crystal_whose_neighbours_are_its_own_images():
    found = measured(bulk("Cu"), 3.0)
    assert len(found["distance"].values) == 6 and found["coordination"].values.tolist() == [12]
    assert np.unique(found["angle"].values.round(4)).tolist() == [60, 90, 120, 180] and len(found["angle"].values) == 66


def test_groups_are_the_rows_of_the_same_elements():
    found = measured(molecule("CH3CH2OH"))["angle"]
    groups = dict(found.groups())
    assert list(groups) == sorted({tuple(row) for row in found.elements.tolist()})
    assert all((found.elements[rows] == key).all() for key, rows in groups.items())
    assert sorted(np.concatenate([*groups.values()])) == list(range(len(found.values)))


def test_what_was_there_is_known_and_nothing_depends_on_the_orientation():
    frames = []
    for seed in range(20):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.05, seed=seed)
        frames.append(atoms)
    known = fitted(*frames)
    assert not any(unknown(known, atoms) for atoms in frames)
    assert known.to_dict() == of_graphs([collate([graph(atoms) for atoms in frames])]).to_dict()
    hot = molecule("CH3CH2OH")
    hot.rattle(0.3, seed=50)
    turned = hot.copy()
    turned.rotate(70, (1, 2, 3))
    told, again = unknown(known, hot), unknown(known, turned)
    assert told and [(one.atoms, one.kind) for one in told] == [(one.atoms, one.kind) for one in again]
    permuted = unknown(known, hot[np.random.default_rng(0).permutation(len(hot))])
    assert sorted(one.excess for one in permuted) == pytest.approx(sorted(one.excess for one in told), rel=1e-6)


def test_a_stretched_bond_a_bent_angle_and_a_lost_neighbour():
    water = molecule("H2O")
    known = fitted(water)
    assert {one.atoms for one in unknown(known, stretched(1.1))} == {(0, 1), (1, 2)}
    bent = water.copy()
    bent.set_angle(1, 0, 2, 90)
    (angle,) = unknown(known, bent, ANGLE)
    assert angle.atoms[1] == 0 and angle.value == pytest.approx(90) and angle.known[0] == pytest.approx(102)
    assert {(one.atoms, one.elements, one.value, one.known) for one in unknown(known, stretched(2.0), COORDINATION)} == {
        ((0,), (8, 1), 1.0, (2.0, 2.0)),
        ((1,), (1, 8), 0.0, (1.0, 1.0)),
    }
    order = [KINDS.index(one.kind) for one in unknown(known, stretched(2.0))]
    assert order == sorted(order)


def test_every_value_is_compared_with_the_nearest_range():
    counts = np.zeros(150, dtype=int)
    counts[[50, 60, 61, 62, 100]] = 1
    rows = {(1, 1): counts}
    known = Environments({"distance": rows, "angle": {}, "coordination": {(1, 1): np.array([2, 2])}}, CUTOFF)
    for length, nearest, excess in (
        (1.3, (1.2, 1.26), 2),
        (1.1, (1.0, 1.02), 4),
        (0.9, (1.0, 1.02), 5),
        (1.9, (2.0, 2.02), 5),
        (3.0, (2.0, 2.02), 49),
    ):
        (one,) = unknown(known, Atoms("H2", [[0, 0, 0], [0, 0, length]]), DISTANCE)
        assert one.known == pytest.approx(nearest) and one.excess == pytest.approx(excess)


def test_how_rare_a_value_is():
    """One molecule of 400 has a long bond: a molecule with two bonds has 1/400 that are as long; of short ones none is rare."""
    known = fitted(*[stretched(0.969 + 0.001 * (k % 10)) for k in range(399)], stretched(1.01))
    assert not [one for one in compared(known, stretched(0.97)).rare if one.kind is DISTANCE and one.elements == (1, 8)]
    (long,) = [one for one in compared(known, stretched(1.012)).rare if one.elements == (1, 8)]
    assert long.atoms == (0, 1) and long.expected == pytest.approx(1 / 800 * 2) and long.excess == 0
    (beyond,) = [one for one in compared(known, stretched(1.025)).rare if one.elements == (1, 8)]
    assert beyond.expected == 0.0 and beyond.excess == 0  # within a bin of the last: not unknown, and none was as long


def test_the_end_at_the_cutoff_is_none_and_a_crowd_is_not_rare():
    frames = []
    for seed in range(5):
        atoms = bulk("Si", cubic=True) * (2, 2, 2)
        atoms.rattle(0.25, seed=seed)
        frames.append(atoms)
    known = fitted(*frames)
    found = compared(known, frames[0])
    assert all(one.expected < 0.01 for one in found.rare)
    assert (
        max(one.value for one in found.rare if one.kind is DISTANCE) < 3.0 if [one for one in found.rare if one.kind is DISTANCE] else True
    )
    ideal = compared(known, bulk("Si", cubic=True) * (2, 2, 2))
    assert not ideal.unknown and not [one for one in ideal.rare if one.kind is not COORDINATION]


def test_elements_that_never_met_and_new_ones():
    known = fitted(molecule("H2O"), molecule("CH4"))
    methanol = compared(known, molecule("CH3OH")).unknown
    assert {(one.elements, one.value, one.known) for one in methanol if one.kind is COORDINATION and 1 not in one.elements} == {
        ((6, 8), 1.0, (0.0, 0.0)),
        ((8, 6), 1.0, (0.0, 0.0)),
    }
    never = [one for one in methanol if one.known is None]
    assert {one.elements for one in never if one.kind is DISTANCE} == {(6, 8)} and all(one.excess == np.inf for one in never)
    apart = Atoms("CH4OH2", np.concatenate([molecule("CH4").positions, molecule("H2O").positions + 9.0]))
    assert not compared(known, apart).unknown
    new = compared(known, molecule("CH3Cl"))
    assert new.new_elements == (17,) and all(17 not in one.elements for one in new.unknown)
    assert compared(known, Atoms("F2", [[0, 0, 0], [0, 0, 1.4]])).unknown == () and compared(known, Atoms("F")).new_elements == (9,)


def test_ranges_join_over_small_holes():
    np.testing.assert_allclose(ranges(DISTANCE, np.array([0, 1, 0, 0, 1, 0, 0, 0, 1])), [[0.02, 0.1], [0.16, 0.18]])
    assert ranges(COORDINATION, np.array([0, 1, 1, 0, 5])).tolist() == [[1, 2], [4, 4]]
    assert ranges(ANGLE, None).shape == (0, 2)


def test_one_atom():
    known = fitted(Atoms("H"))
    assert compared(known, Atoms("H")).unknown == () and known.counts["coordination"] == {(1, 1): np.array([1])}


def test_rows_are_added_up_on_the_way():
    frames = [molecule("CH3CH2OH") for _ in range(7)]
    whole = of_graphs([collate([graph(atoms) for atoms in frames])]).to_dict()
    assert fitted(*frames).to_dict() == whole


def test_the_way_through_json():
    known = fitted(molecule("CH3CH2OH"), bulk("Si", cubic=True))
    again = Environments.from_dict(json.loads(json.dumps(known.to_dict())), CUTOFF)
    assert again.cutoff == CUTOFF and again.counts.keys() == known.counts.keys()
    for name, rows in known.counts.items():
        assert rows.keys() == again.counts[name].keys()
        assert all(np.array_equal(row, again.counts[name][key]) for key, row in rows.items())
    assert Environments.from_dict(None, CUTOFF) is None


@pytest.mark.parametrize("row", ("", "3", "0 1.5", "0 -1 2", "-1 1", "1000000000 1", "0 0", "0 0 1", f"0 {2**70}", "ab", [0, 1], None, 3))
def test_a_damaged_row_is_refused(row):
    content = fitted(molecule("H2O")).to_dict()
    content["angle"]["1-8-1"] = row
    with pytest.raises(ValueError):
        Environments.from_dict(content, CUTOFF)
    content["angle"] = {"1-8": "0 1"}
    with pytest.raises(ValueError, match="angle histogram of 1-8"):
        Environments.from_dict(content, CUTOFF)
    with pytest.raises(ValueError, match="have the cutoff 4.0, the model 5.0"):
        Environments.from_dict(fitted(molecule("H2O")).to_dict(), 5.0)
