"""Elastic constants and vibrations of every member: against relaxed stresses, ASE's vibrations and closed forms."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.vibrations import Vibrations

from race_calc import Committee, elastic_constants, vibrations
from race_calc.observables.members import estimate
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.calibration_energy import EnergyCalibration
from race_calc.uncertainty.level_map import FLAT
from race_calc.uncertainty.prediction import VOIGT

EPSILON = np.array([0.95, 1.0, 1.05])


def crystal() -> Atoms:
    """Two atoms that follow a strain, at rest."""
    atoms = bulk("Cu", "hcp", a=2.55, c=4.2)
    atoms.calc = EMT()
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-6, steps=300)
    return atoms


def lennard_jones() -> Committee:
    return Committee([LennardJones(epsilon=0.01 * e, sigma=2.3, rc=7.0, smooth=True) for e in EPSILON])


def from_stresses(atoms: Atoms, relax: bool, step: float = 1e-3) -> np.ndarray:
    """dσ/dε with relaxed atoms, (6, 6)."""
    rows = []
    for row, column in zip(*VOIGT):
        ends = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[row, column] += sign * step / 2
            strain[column, row] += sign * step / 2
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            moved.calc = EMT()
            if relax:
                BFGS(moved, logfile=None).run(fmax=1e-7, steps=300)
            ends.append(moved.get_stress())
        rows.append((ends[0] - ends[1]) / (2 * step))
    return np.array(rows)


def test_constants_are_those_of_stresses_with_and_without_relaxation():
    atoms = crystal()
    found = elastic_constants(Committee([EMT(), EMT()]), atoms)
    for one, relax in ((found.clamped, False), (found.relaxed, True)):
        np.testing.assert_allclose(one.value, from_stresses(atoms, relax), atol=3e-3 * abs(one.value).max())
        assert np.all(one.std == 0) and one.members.shape == (2, 6, 6) and not one.calibrated
    assert abs(found.relaxed.value - found.clamped.value).max() > 0.05 * abs(found.clamped.value).max()
    assert np.linalg.eigvalsh(found.relaxed.value)[0] > 0


def test_errors_are_those_of_the_members():
    """All of E, and so all of C, is ∝ ε of the potential; the same crystal turned has the same trace."""
    atoms = bulk("Cu", "fcc", a=3.6)
    found = elastic_constants(lennard_jones(), atoms)
    spread = EPSILON.std() / EPSILON.mean()
    for one in (found.clamped, found.relaxed):
        np.testing.assert_allclose(one.std, spread * abs(one.value), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(one.members[2], one.value * 1.05, rtol=1e-6, atol=1e-9)


def test_vibrations_are_those_of_ase(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    atoms = molecule("H2O")
    atoms.calc = EMT()
    BFGS(atoms, logfile=None).run(fmax=1e-5)
    theirs = Vibrations(atoms, delta=0.01)
    theirs.run()
    found = vibrations(Committee([EMT(), EMT()]), atoms)
    np.testing.assert_allclose(found.frequencies.value[6:], theirs.get_frequencies()[6:].real, rtol=1e-6)
    assert found.data.get_zero_point_energy() == pytest.approx(theirs.get_zero_point_energy(), rel=1e-3)
    assert np.all(found.frequencies.std == 0) and found.frequencies.members.shape == (2, 9)


def test_a_frequency_goes_with_the_root_of_the_energy():
    atoms = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.3 * 2 ** (1 / 6)]])
    found = vibrations(lennard_jones(), atoms).frequencies
    stiffness = 57.1464 * 0.01 / 2.3**2  # of a Lennard-Jones pair at its minimum, ε/σ²
    expected = units._hbar * np.sqrt(stiffness * units._e * 1e20 / (atoms.get_masses()[0] / 2 * units._amu)) / units._e / units.invcm
    assert found.value[-1] == pytest.approx(expected, rel=2e-3)
    assert found.std[-1] == pytest.approx(found.value[-1] * np.sqrt(EPSILON).std(), rel=1e-3)


class WithoutForces:
    """Members whose forces are left out."""

    def raw_predictions(self, structures, batch=256):
        return (replace(one, forces_members=None) for one in lennard_jones().raw_predictions(structures, batch))


def test_what_cannot_be_told_is_refused():
    atoms = bulk("Cu", "fcc", a=3.6)
    one = Committee([EMT(), EMT()])
    with pytest.raises(ValueError, match="elastic constants are of crystals"):
        elastic_constants(one, molecule("H2O"))
    slab = atoms.copy()
    slab.pbc = [True, True, False]
    with pytest.raises(ValueError, match="elastic constants are of crystals"):
        elastic_constants(one, slab)
    with pytest.raises(ValueError, match="forces of its members"):
        vibrations(WithoutForces(), atoms)


@pytest.mark.parametrize("factor, widening", [(4.0, 2.0), (0.1, 1.0)])
def test_a_calibration_of_energies_widens_and_never_narrows(factor, widening):
    values, potential = np.random.default_rng(0).normal(size=(5, 6, 6)), lennard_jones()
    potential.calibration = Calibration("", 50, EnergyCalibration(factor, 1.0, FLAT, ()), None)
    found = estimate(potential, values)
    np.testing.assert_allclose(found.std, widening * values[1:].std(axis=0), rtol=1e-9)
    np.testing.assert_array_equal(found.value, values[0])
    assert found.calibrated == (widening > 1)
