"""Differences of energies: what members share drops out, and independent errors add up."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from race_calc import difference
from race_calc.uncertainty.aggregate import MemberOutputs, aggregate
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.calibration_energy import EnergyCalibration
from race_calc.uncertainty.level_map import FLAT

A, B = Atoms("Ar"), Atoms("ArAr", [[0, 0, 0], [0, 0, 4]])


class Told:
    """Energies of the members by the number of atoms."""

    def __init__(self, energies, calibration=None, noise=None):
        self.energies, self.calibration, self.noise = energies, calibration, noise

    def raw_predictions(self, structures, batch=256):
        for atoms in structures:
            energy = np.array(self.energies[len(atoms)])[:, None]
            outputs = MemberOutputs(energy=energy, forces=np.zeros((len(energy), len(atoms), 3)), batch=np.zeros(len(atoms), dtype=int))
            yield replace(aggregate(outputs), energy_aleatoric=None if self.noise is None else np.array([self.noise]))


def test_what_members_share_drops_out():
    shift = np.random.default_rng(0).normal(size=8)
    found = difference(Told({1: shift, 2: 3.0 + shift}), A, B)
    assert found.value == pytest.approx(3.0) and found.std == pytest.approx(0.0, abs=1e-12) and not found.calibrated
    np.testing.assert_allclose(found.members, 3.0)


def test_independent_errors_add_up():
    one, two = np.array([1.0, -1.0, 1.0, -1.0]), np.array([2.0, 2.0, -2.0, -2.0])
    found = difference(Told({1: one, 2: two}), A, B, times=0.5)
    assert found.std == pytest.approx(np.sqrt(4.0 + 0.25)) and found.value == 0.0


def test_a_calibration_counts_for_both():
    one, two = np.array([1.0, -1.0, 1.0, -1.0]), np.array([2.0, 2.0, -2.0, -2.0])
    calibration = Calibration("", 50, EnergyCalibration(9.0, 1.0, FLAT, ()), None)
    found = difference(Told({1: one, 2: two}, calibration), A, B)
    assert found.calibrated and found.std == pytest.approx(3 * np.sqrt(5.0))
    noisy = difference(Told({1: one, 2: two}, calibration, noise=1.5), A, B)  # the total is what is calibrated
    assert noisy.std == pytest.approx(np.sqrt(9 * 5.0 + 3.0))
    assert difference(Told({1: one, 2: two}, noise=1.5), A, B).std == pytest.approx(np.sqrt(5.0))


def test_of_a_structure_and_itself_it_is_certain():
    energies = np.random.default_rng(0).normal(size=5)
    found = difference(Told({1: energies}), A, A)
    assert (found.value, found.std) == (0.0, 0.0)
    assert difference(Told({1: np.ones(3), 2: np.ones(3)}), A, B).std == 0.0


def test_one_member_tells_none():
    with pytest.raises(ValueError, match="take a committee or an ensemble"):
        difference(Told({1: [1.0], 2: [2.0]}), A, B)
