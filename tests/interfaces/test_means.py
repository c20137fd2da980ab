"""Between the checks of a monitor with an interval: the same dynamics from cheaper means, everything else when it is asked for."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.io import read
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from race_calc import RACECalculator, UncertaintyMonitor

SHARED = "models/3bpa-llpr"


@pytest.fixture
def whole(monkeypatch):
    """Structures that were predicted as a whole, one entry for each evaluation."""
    found, raw = [], RACECalculator._raw

    def counted(self, atoms):
        found.append(atoms.positions.copy())
        return raw(self, atoms)

    monkeypatch.setattr(RACECalculator, "_raw", counted)
    return found


def run_of(model, interval, steps=12):
    atoms = read("models/3bpa-de/start.xyz")
    atoms.calc = RACECalculator(model, "cpu")
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    return dynamics, None if interval is None else UncertaintyMonitor(dynamics, flagged=None, interval=interval)


def test_the_dynamics_are_the_same_and_every_fourth_step_is_whole(whole):
    ends, records = {}, {1: {}, 4: {}}
    for interval in (1, 4):
        dynamics, monitor = run_of(SHARED, interval)
        whole.clear()
        seen = records[interval]
        monitor.callback = lambda record, seen=seen: seen.update({record.step: record.scores})
        dynamics.run(12)
        assert len(whole) == 12 // interval  # each check in one evaluation, none beside them
        ends[interval] = dynamics.atoms.positions
    np.testing.assert_allclose(ends[4], ends[1], rtol=0, atol=1e-10)
    every = records[1]
    assert sorted(records[4]) == [0, 4, 8, 12]
    for step, values in records[4].items():
        assert values == pytest.approx(every[step], rel=1e-6)


def test_what_is_asked_for_between_checks_is_predicted(whole):
    dynamics, monitor = run_of(SHARED, 10)
    dynamics.run(3)
    atoms, calc = dynamics.atoms, dynamics.atoms.calc
    assert set(calc.results) == {"energy", "free_energy", "energies", "forces"} and len(whole) == 1
    means = {name: np.copy(value) for name, value in calc.results.items()}
    covariance = calc.get_property("forces_covariance", atoms)
    assert len(whole) == 2 and calc.prediction(atoms).available >= {"bald_forces"} and len(whole) == 2
    for name, value in means.items():
        np.testing.assert_allclose(calc.results[name], value, rtol=1e-12, atol=1e-12)
    alone = RACECalculator(SHARED, "cpu")
    np.testing.assert_allclose(covariance, alone.get_property("forces_covariance", atoms), rtol=1e-10, atol=1e-14)
    dynamics.run(1)
    assert calc.prediction() is not None and len(whole) == 4  # the one of `alone` between
    monitor.detach()
    dynamics.run(1)
    assert "forces_covariance" in calc.results


def test_a_second_monitor_that_looks_at_every_step_has_it(whole):
    dynamics, _ = run_of(SHARED, 5)
    UncertaintyMonitor(dynamics, flagged=None)
    dynamics.run(4)
    assert len(whole) == 1 + 4


def test_structures_that_nobody_watches_are_predicted_as_a_whole(whole):
    dynamics, _ = run_of(SHARED, 5)
    dynamics.run(2)
    calc, other = dynamics.atoms.calc, dynamics.atoms.copy()
    other.rattle(0.01, seed=1)
    calc.calculate(other)
    assert "forces_covariance" in calc.results and len(whole) == 2
    other.rattle(0.01, seed=2)
    assert calc.prediction(other).available >= {"bald_forces"} and len(whole) == 3  # once
    calc.calculate(other, None)
    assert len(whole) == 4


def test_means_are_those_of_the_posterior_in_use(whole):
    """Another one in its place has no cheaper means; a copy has its own."""
    dynamics, _ = run_of(SHARED, 5)
    dynamics.run(1)
    calc = dynamics.atoms.calc
    assert len(pickle.dumps(calc)) < 50_000
    calc.posterior = replace(calc.posterior, parameters={name: 1.01 * value for name, value in calc.posterior.parameters.items()})
    calc.reset()
    dynamics.run(1)
    assert "forces_covariance" in calc.results
    forces = dynamics.atoms.get_forces()
    np.testing.assert_allclose(forces, calc.posterior.predict(calc._graph(dynamics.atoms)).forces, rtol=1e-12, atol=1e-12)


def test_means_that_need_every_member_are_as_before(whole):
    dynamics, _ = run_of("models/3bpa-de", 5)
    dynamics.run(3)
    assert len(whole) == 4 and "forces_covariance" in dynamics.atoms.calc.results


def test_an_optimisation(whole):
    found = {}
    for interval in (1, 3):
        dynamics, _ = run_of(SHARED, None)
        dynamics.atoms.rattle(0.05, seed=0)
        optimiser = BFGS(dynamics.atoms, logfile=None)
        UncertaintyMonitor(optimiser, [], flagged=None, interval=interval)
        whole.clear()
        optimiser.run(fmax=0.01, steps=6)
        found[interval] = len(whole), dynamics.atoms.positions
    assert (found[1][0], found[3][0]) == (6, 2)  # of six steps the third and the sixth
    np.testing.assert_allclose(found[3][1], found[1][1], rtol=0, atol=1e-9)
