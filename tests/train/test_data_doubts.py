"""Labels far from all others are told before a training; spread-out data are not called broken."""

import warnings

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from race_calc.data.dataset import dataset_from_atoms
from race_calc.train.data_doubts import far_out, warn_of_outliers


def data(count=30, forces=(), energies=()):
    rng, frames = np.random.default_rng(0), []
    for i in range(count):
        atoms = molecule("H2O")
        atoms.rattle(0.1, seed=i)
        own = rng.normal(size=(3, 3)) * dict(forces).get(i, 1.0)
        atoms.calc = SinglePointCalculator(atoms, energy=-10.0 + 0.1 * rng.normal() + dict(energies).get(i, 0.0), forces=own)
        frames.append(atoms)
    return dataset_from_atoms(frames)


def test_sound_data_are_not_doubted():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_outliers(data(), "frame {}".format)
        warn_of_outliers(data(forces=[(i, 30.0) for i in range(10)]), "frame {}".format)  # a third of them: another kind, not broken ones
        warn_of_outliers(data(5, forces=[(0, 1e3)]), "frame {}".format)


@pytest.mark.parametrize("given, said", [({"forces": [(3, 1e3)]}, "forces of 1 structures"), ({"energies": [(3, 50.0)]}, "energies of 1")])
def test_one_that_is_far_out_is_named(given, said):
    with pytest.warns(UserWarning, match=rf"{said}.*: frame 3 \("):
        warn_of_outliers(data(**given), "frame {}".format)


def test_the_few_above_the_gap():
    sizes = np.ones(40)
    sizes[[5, 7]] = 300.0, 200.0
    assert far_out(sizes, 20.0) == [5, 7] and far_out(sizes, 250.0) == []
    sizes[:10] = 50.0
    assert far_out(sizes, 20.0) == []
