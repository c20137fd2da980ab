"""A run with a barostat ends where the pressure is known to less than 3 % of the bulk modulus; others do not ask."""

import warnings

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.eos import EquationOfState
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from ase.md.melchionna import MelchionnaNPT
from ase.md.nose_hoover_chain import MTKNPT, IsotropicMTKNPT
from ase.md.nptberendsen import NPTBerendsen
from ase.optimize import BFGS

from race_calc import Committee, Criterion, RACECalculator, UncertaintyMonitor
from race_calc.md.barostat import AFTER, KNOWN, bulk_modulus, has_barostat, pressure_criterion
from race_calc.uncertainty.decisions import PRESSURE

STEP = 2 * units.fs


class Pressed(EMT):
    """EMT with a pressure besides, eV/Å³."""

    def __init__(self, pressure: float):
        super().__init__()
        self.pressure = pressure

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        if "stress" in self.results:
            self.results["stress"] = self.results["stress"] - self.pressure * np.array([1.0, 1, 1, 0, 0, 0])


def copper(pressure: float = 0.0):
    """Members whose pressures have this standard deviation."""
    atoms = bulk("Cu", cubic=True)
    atoms.calc = Committee([Pressed(-pressure), Pressed(pressure)])
    return atoms


def mtk(atoms):
    return IsotropicMTKNPT(atoms, STEP, temperature_K=300, pressure_au=0.0, tdamp=100 * STEP, pdamp=1000 * STEP)


def test_the_modulus_is_that_of_an_equation_of_state():
    atoms = bulk("Cu", cubic=True)
    volumes, energies = [], []
    for scale in np.linspace(0.98, 1.02, 9):
        scaled = atoms.copy()
        scaled.set_cell(atoms.cell.array * scale, scale_atoms=True)
        scaled.calc = EMT()
        volumes.append(scaled.cell.volume)
        energies.append(scaled.get_potential_energy())
    v0, _, modulus = EquationOfState(volumes, energies).fit()
    at_rest = bulk("Cu", a=v0 ** (1 / 3), cubic=True)
    at_rest.calc = Committee([EMT(), EMT()])
    assert bulk_modulus(at_rest) == pytest.approx(modulus, rel=0.01)


@pytest.mark.parametrize("times, ended", [(0.8, False), (1.3, True)])
def test_a_run_ends_where_the_pressure_is_not_known(times, ended):
    modulus = bulk_modulus(copper())
    atoms = copper(times * KNOWN * modulus)
    dynamics = mtk(atoms)
    limits = [Criterion("forces_uncertainty_max", 1e3)]
    plain = UncertaintyMonitor(dynamics, limits, flagged=None)
    assert [c.name for c in plain.criteria] == ["forces_uncertainty_max"]  # those that are asked for, and no other
    plain.detach()
    atoms.calc._thresholds = {"forces_uncertainty_rms_epistemic": 1e3, "forces_uncertainty_max_epistemic": 1e3}
    with pytest.warns(UserWarning, match="never compared with labels"):
        monitor = UncertaintyMonitor(dynamics, flagged=None)
    (criterion,) = [c for c in monitor.criteria if c.name == PRESSURE]
    assert criterion.threshold == pytest.approx(KNOWN * modulus, rel=1e-6) and criterion.action == "halt"
    dynamics.run(20)
    assert (monitor.halt_reason is not None) == ended
    if ended:
        assert monitor.halt_reason.criterion == PRESSURE and monitor.halt_reason.step == AFTER - 1


def test_only_barostats_ask():
    atoms = copper(1.0)
    atoms.calc._thresholds = {"forces_uncertainty_rms_epistemic": 1e3, "forces_uncertainty_max_epistemic": 1e3}
    for dynamics in (Langevin(atoms, STEP, temperature_K=300, friction=0.01), BFGS(atoms, logfile=None)):
        assert not has_barostat(dynamics)
        assert PRESSURE not in [c.name for c in UncertaintyMonitor(dynamics, flagged=None).criteria]
    shared = {"timestep": STEP, "temperature_K": 300, "pressure_au": 0.0}
    assert has_barostat(NPTBerendsen(atoms, compressibility_au=1.0, **shared))
    assert has_barostat(MTKNPT(atoms, tdamp=100 * STEP, pdamp=1000 * STEP, **shared))
    assert has_barostat(LangevinBAOAB(atoms, STEP, temperature_K=300, externalstress=0.0))
    assert not has_barostat(LangevinBAOAB(atoms, STEP, temperature_K=300))
    for factor in (None, 1.0):
        dynamics = MelchionnaNPT(atoms, STEP, temperature_K=300, externalstress=0.0, ttime=100 * STEP, pfactor=factor)
        assert has_barostat(dynamics) == (factor is not None)


class Soft(Pressed):
    """A pressure that rises with the volume."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        if "stress" in self.results:
            rise = 5.0 * (self.atoms.cell.volume / len(self.atoms) - 11.8)
            self.results["stress"] = self.results["stress"] - rise * np.array([1.0, 1, 1, 0, 0, 0])


def test_where_the_modulus_is_not_positive_no_pressure_is_known():
    atoms = bulk("Cu", cubic=True)
    atoms.calc = Committee([Soft(-1e-4), Soft(1e-4)])
    assert bulk_modulus(atoms) < 0
    (criterion,) = pressure_criterion(atoms, (PRESSURE,))
    assert criterion.threshold == 0.0 and criterion.action == "halt"


def test_a_gas_has_the_modulus_of_its_motion():
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell.array * 6, scale_atoms=True)
    atoms.calc = Committee([EMT(), EMT()])
    atoms.set_momenta(np.full((4, 3), 3.0))
    assert bulk_modulus(atoms) == pytest.approx(2 * atoms.get_kinetic_energy() / (3 * atoms.cell.volume), rel=1e-6)


def test_a_model_trained_without_stress_says_so_when_it_is_asked(tiny_model, tmp_path):
    atoms = bulk("C", cubic=True)
    atoms.calc = RACECalculator(tiny_model, "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.get_forces()
        write(tmp_path / "one.traj", atoms)  # asks for what is there
    with pytest.warns(UserWarning, match="trained without stresses"):
        atoms.get_stress()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.get_stress()


def test_the_modulus_follows_the_volume():
    """A cell that grows is judged by the modulus that it has now; a limit that was accepted stays."""
    atoms = copper(1e-4)
    atoms.calc._thresholds = {"forces_uncertainty_rms_epistemic": 1e3, "forces_uncertainty_max_epistemic": 1e3}
    dynamics = NPTBerendsen(atoms, STEP, temperature_K=300, pressure_au=0.0, compressibility_au=1.0)
    monitor = UncertaintyMonitor(dynamics, flagged=None)
    first = monitor.criteria[-1].threshold
    atoms.set_cell(atoms.cell.array * 1.01, scale_atoms=True)
    dynamics.run(1)
    assert monitor.criteria[-1].threshold == first
    atoms.set_cell(atoms.cell.array * 1.03, scale_atoms=True)
    dynamics.run(1)
    second = monitor.criteria[-1].threshold
    assert second < 0.9 * first and [c.name for c in monitor.criteria].count(PRESSURE) == 1
    monitor.criteria = [Criterion(PRESSURE, first, "halt", AFTER)]
    atoms.set_cell(atoms.cell.array * 1.05, scale_atoms=True)
    dynamics.run(1)
    assert [c.threshold for c in monitor.criteria] == [first]
