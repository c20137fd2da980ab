"""What a model has seen before is counted and left out; labels of another level are recognised."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from made_up import residuals

from race_calc.data.dataset import dataset_from_atoms
from race_calc.data.hashes import data_hash, geometry_hashes
from race_calc.evaluate.overlap import overlap
from race_calc.evaluate.reference_level import other_level, reference_level
from race_calc.uncertainty.calibration import fit_calibration


@pytest.fixture(scope="module")
def dataset():
    found = []
    for seed in range(8):
        atoms = molecule("H2O")
        atoms.positions += np.random.default_rng(seed).normal(scale=0.05, size=(3, 3))
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((3, 3)))
        found.append(atoms)
    return dataset_from_atoms(found)


def test_each_way_of_having_seen_a_structure_is_counted(dataset):
    hashes = geometry_hashes(dataset)
    known = {"train": " ".join(hashes[:2]), "validation": " ".join(hashes[2:3])}
    calibration = replace(fit_calibration(residuals()), structures=" ".join([*hashes[2:4], "0" * 16]))
    found = overlap(dataset, known, calibration)
    assert (found.trained_on, found.chosen_on, found.calibrated_on) == ((0, 1), (2,), (2, 3))
    assert found.seen == (0, 1, 2, 3) and found.unseen == (4, 5, 6, 7) and found.untold == ()


def test_what_is_not_recorded_is_said_and_the_same_file_is_known_without_a_record(dataset):
    older = replace(fit_calibration(residuals()), data_hash=data_hash(dataset))
    assert overlap(dataset, None, older).calibrated_on == tuple(range(8))
    found = overlap(dataset.subset(range(4)), None, older)
    assert found.seen == () and found.untold == ("training", "calibration")
    assert overlap(dataset, {"train": "", "validation": ""}, None).untold == ()


def mixture(level, seed=0):
    """Residuals of structures of four compositions, with a constant of each element on the energies."""
    raw, rng = residuals(structures=40, energy_factor=1e-4), np.random.default_rng(seed)
    numbers = rng.choice([1, 6, 8], size=len(raw.numbers))
    constant = np.bincount(raw.frame, np.array([level.get(int(z), 0.0) for z in numbers]))
    return replace(raw, numbers=numbers, energy=raw.energy + constant)


def test_constants_of_elements_are_another_level_and_errors_are_not():
    assert reference_level(mixture({})).doubted is False and other_level(mixture({})) == []
    level = reference_level(mixture({1: 0.3, 6: -0.4, 8: 0.2}))  # their mean is nearly zero, and no common offset explains them
    assert level.doubted and level.rmse == pytest.approx(np.sqrt(np.mean(mixture({}).energy ** 2)), rel=0.1)
    hydrogen = reference_level(mixture({1: 1.0, 6: 1.0, 8: 1.0}))
    assert hydrogen.offset_per_atom == pytest.approx(1.0, rel=0.01)
    assert "about 1e+03 meV per atom" in other_level(mixture({1: 1.0, 6: 1.0, 8: 1.0}))[0]


def test_few_structures_and_broken_numbers_tell_no_level():
    raw = residuals(structures=5)
    assert reference_level(replace(raw, energy=raw.energy + 1e3)) is None
    raw = residuals(structures=9)
    assert reference_level(replace(raw, energy=raw.energy + 1e3)).doubted
    assert reference_level(replace(raw, energy=np.full(9, np.nan))) is None
