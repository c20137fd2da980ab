import json

import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from race_calc.data.dataset import dataset_from_atoms
from race_calc.data.split import Split, apply_split, make_split


def test_last_frames_are_held_back():
    split = make_split(500, 50, seed=3)
    assert split.train == tuple(range(450)) and split.validation == tuple(range(450, 500))
    assert split.seed == 3


def test_random_split_depends_on_the_seed_only():
    a, b, c = (make_split(30, 10, seed, "random") for seed in (0, 0, 1))
    assert a == b and a.validation != c.validation
    assert sorted(a.train + a.validation) == list(range(30)) and len(a.validation) == 10
    assert list(a.train) == sorted(a.train) and a.validation != tuple(range(20, 30))


def test_explicit_indices_and_none():
    assert make_split(5, [3, 0]) == Split((1, 2, 4), (0, 3), 0)
    assert make_split(3, 0) == Split((0, 1, 2), (), 0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((5, 5), "cannot hold back 5 of 5"),
        ((5, -1), "cannot hold back -1"),
        ((5, [5]), "outside the data set of 5"),
        ((5, [-1]), "outside the data set of 5"),
        ((5, [1, 1]), "validation indices of the split repeat"),
        ((2, [0, 1]), "no structure to train on"),
        ((5, 1, 0, "first"), "use 'last' or 'random'"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_split(*arguments)


def test_parts_must_be_disjoint():
    with pytest.raises(ValueError, match="1 structures are in both parts.*first: 2"):
        Split((0, 1, 2), (2, 3), 0)
    with pytest.raises(ValueError, match="train indices of the split hold -1"):
        Split((-1, 1), (2,), 0)


def test_json_round_trip():
    split = make_split(20, 5, 7, "random")
    assert Split.from_dict(json.loads(json.dumps(split.to_dict()))) == split
    for wrong in ({}, {"train": 3, "validation": [], "seed": 0}, {"train": [0.5], "validation": [], "seed": 0}):
        with pytest.raises(ValueError, match="not a stored split"):
            Split.from_dict(wrong)


def test_apply_split():
    frames = []
    for i in range(4):
        atoms = Atoms("H")
        atoms.calc = SinglePointCalculator(atoms, energy=float(i), forces=[[0.0, 0.0, 0.0]])
        frames.append(atoms)
    data = dataset_from_atoms(frames)
    train, validation = apply_split(data, make_split(4, [1]))
    assert train.energy.tolist() == [0, 2, 3] and validation.energy.tolist() == [1]
    assert apply_split(data, make_split(4, 0))[1] is None
    with pytest.raises(ValueError, match="1 indices of the split .first: 4. are outside"):
        apply_split(data, make_split(5, 1))
