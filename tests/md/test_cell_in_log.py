"""Lines of the log of a periodic run carry volume, density and pressure."""

import json

import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE

from race_calc import Committee, UncertaintyMonitor, read_log
from race_calc.uncertainty.decisions import Criterion

CRITERIA = [Criterion("forces_uncertainty_max", threshold=100.0, action="flag")]


class Off(EMT):
    """EMT with forces and stress a little larger: another opinion."""

    def calculate(self, *arguments, **options):
        super().calculate(*arguments, **options)
        for name in {"forces", "stress"} & set(self.results):
            self.results[name] = 1.01 * self.results[name]


def watched(atoms, dynamics_of, log):
    atoms.calc = Committee([EMT(), Off()])
    dynamics = dynamics_of(atoms)
    UncertaintyMonitor(dynamics, CRITERIA, logfile=log, flagged=None, quiet=1)
    return dynamics


def test_of_a_crystal_in_motion(tmp_path):
    atoms = bulk("Cu", cubic=True) * 2
    atoms.set_cell(0.99 * atoms.cell, scale_atoms=True)
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))
    watched(atoms, lambda atoms: VelocityVerlet(atoms, units.fs), tmp_path / "log.jsonl").run(3)
    (run,) = read_log(tmp_path / "log.jsonl")
    np.testing.assert_allclose(run.volume, atoms.get_volume())
    assert run.density[0] == pytest.approx(8.96 / 0.99**3, rel=0.02)  # of copper
    expected = -atoms.get_stress(include_ideal_gas=True)[:3].mean() / units.GPa
    assert run.pressure[-1] == pytest.approx(expected, rel=1e-9) and run.pressure[-1] > 1.0


def test_of_an_optimiser_and_of_a_molecule(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=0)
    watched(atoms, lambda atoms: FIRE(atoms, logfile=None), tmp_path / "cell.jsonl").run(steps=1)
    (run,) = read_log(tmp_path / "cell.jsonl")
    assert run.pressure[-1] == pytest.approx(-atoms.get_stress()[:3].mean() / units.GPa, rel=1e-9)
    watched(molecule("CO"), lambda atoms: FIRE(atoms, logfile=None), tmp_path / "molecule.jsonl").run(steps=1)
    (run,) = read_log(tmp_path / "molecule.jsonl")
    assert np.isnan([run.volume, run.density, run.pressure]).all()
    line = json.loads((tmp_path / "molecule.jsonl").read_text().splitlines()[1])
    assert line["volume"] is None


def test_a_volume_guard_halts_a_run_whose_cell_grows(tmp_path):
    """Off by default; with a number it halts, and "auto" stands for nothing."""
    atoms = bulk("Cu", cubic=True)
    start = atoms.get_volume() / len(atoms)
    atoms.calc = Committee([EMT(), Off()])
    dynamics = VelocityVerlet(atoms, units.fs)
    monitor = UncertaintyMonitor(dynamics, [Criterion("volume_per_atom", threshold=1.1 * start, action="halt")], flagged=None)
    dynamics.attach(lambda: atoms.set_cell(1.01 * atoms.cell, scale_atoms=True))
    dynamics.run(20)
    assert monitor.halt_reason.criterion == "volume_per_atom" and 1.1 < monitor.halt_reason.value / start < 1.15
    with pytest.raises(ValueError, match="no threshold \"auto\" for 'volume_per_atom'"):
        UncertaintyMonitor(VelocityVerlet(atoms, units.fs), [Criterion("volume_per_atom", "auto", "halt")], flagged=None)
    molecular = molecule("CO")
    molecular.calc = Committee([EMT(), Off()])
    with pytest.raises(ValueError, match="cannot give the criterion 'volume_per_atom'"):
        UncertaintyMonitor(FIRE(molecular, logfile=None), [Criterion("volume_per_atom", 20.0, "halt")], flagged=None)
