"""OpenMM against RACECalculator: energies, forces, a barostat, a subset of particles, the halt as an exception."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.io import read
from ase.md.verlet import VelocityVerlet

from race_calc import RACECalculator, UncertaintyMonitor
from race_calc.interfaces.openmm import KJ_PER_MOL, OpenMMRace
from race_calc.interfaces.served import Served

MODELS = Path(__file__).parents[2] / "models"
pytestmark = pytest.mark.skipif(importlib.util.find_spec("openmm") is None, reason="no openmm: pip install 'race_calc[openmm]'")


def molecule_of_3bpa(seed=0):
    atoms = read(MODELS / "3bpa-de" / "start.xyz")
    atoms.rattle(0.02, seed=seed)
    return atoms


def context_of(atoms, race, integrator, more=0):
    import openmm

    system = openmm.System()
    for mass in [*atoms.get_masses(), *[12.0] * more]:
        system.addParticle(mass)
    if atoms.pbc.any():
        system.setDefaultPeriodicBoxVectors(*(0.1 * atoms.cell.array))
    system.addForce(race.force)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    return context, system


def told(context):
    """eV, eV/Å, Å."""
    state = context.getState(getEnergy=True, getForces=True, getPositions=True)
    forces = state.getForces(asNumpy=True)._value / KJ_PER_MOL / 10
    return state.getPotentialEnergy()._value / KJ_PER_MOL, forces, state.getPositions(asNumpy=True)._value * 10


@pytest.mark.parametrize("name", ["molecule", "crystal"])
def test_energy_forces_and_uncertainties(name):
    import openmm

    atoms, model = (molecule_of_3bpa(), "3bpa-de") if name == "molecule" else (bulk("Si", cubic=True), "silicon")
    race = OpenMMRace(Served(MODELS / model, device="cpu"), list(atoms.symbols), periodic=name == "crystal", halting=False)
    context, _ = context_of(atoms, race, openmm.VerletIntegrator(0.0005))
    atoms.rattle(0.05, seed=2)
    context.setPositions(0.1 * atoms.positions)
    energy, forces, atoms.positions = told(context)
    p = RACECalculator(MODELS / model, "cpu").prediction(atoms)
    assert energy == pytest.approx(p.energy[0], abs=1e-9)
    np.testing.assert_allclose(forces, p.forces, atol=1e-8)
    assert race.prediction.energy_uncertainty == pytest.approx(p.energy_uncertainty, abs=1e-9)
    np.testing.assert_allclose(race.prediction.forces_covariance, p.forces_covariance, atol=1e-9)
    assert race.evaluations == 1


def test_a_box_that_changes():
    """OpenMM's barostats compare energies of boxes, and ask for no virial."""
    import openmm

    atoms = bulk("Si", cubic=True)
    race = OpenMMRace(Served(MODELS / "silicon", device="cpu"), list(atoms.symbols), periodic=True, halting=False)
    context, _ = context_of(atoms, race, openmm.VerletIntegrator(0.0005))
    calc = RACECalculator(MODELS / "silicon", "cpu")
    for scale in (0.98, 1.0, 1.03):
        moved = atoms.copy()
        moved.set_cell(scale * atoms.cell, scale_atoms=True)
        context.setPeriodicBoxVectors(*(0.1 * moved.cell.array))
        context.setPositions(0.1 * moved.positions)
        assert told(context)[0] == pytest.approx(calc.get_potential_energy(moved), abs=1e-9)


def test_some_of_the_particles():
    import openmm

    atoms = molecule_of_3bpa()
    order = np.random.default_rng(0).permutation(len(atoms) + 3)[: len(atoms)]
    race = OpenMMRace(Served(MODELS / "3bpa-de", device="cpu"), list(atoms.symbols), particles=order.tolist())
    context, _ = context_of(atoms, race, openmm.VerletIntegrator(0.0005), more=3)
    positions = np.random.default_rng(1).normal(size=(len(atoms) + 3, 3))
    positions[order] = atoms.positions
    context.setPositions(0.1 * positions)
    _, forces, where = told(context)
    atoms.positions = where[order]
    np.testing.assert_allclose(forces[order], RACECalculator(MODELS / "3bpa-de", "cpu").get_forces(atoms), atol=1e-8)
    assert not np.delete(forces, order, axis=0).any()


def test_the_halt_is_that_of_ase_and_the_context_can_be_saved():
    import openmm

    atoms = molecule_of_3bpa(2)
    momenta = np.zeros((len(atoms), 3))
    momenta[np.argmax(atoms.positions[:, 0]), 0] = np.sqrt(2 * 1.008 * 8.0)  # 8 eV
    atoms.set_momenta(momenta)
    race = OpenMMRace(Served(MODELS / "3bpa-de", device="cpu"), list(atoms.symbols))
    step = 0.5e-3
    context, _ = context_of(atoms, race, openmm.VerletIntegrator(step))
    context.setPositions(0.1 * atoms.positions)
    context.setVelocities(atoms.get_velocities() * 0.1 * 1000 * units.fs)  # nm/ps; of a leap-frog: half a step earlier
    with pytest.raises(openmm.OpenMMException, match="halt at step"):
        context.getIntegrator().step(60)
    steps = context.getStepCount()
    saved = context.createCheckpoint()
    atoms.calc = RACECalculator(MODELS / "3bpa-de", "cpu")
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    monitor = UncertaintyMonitor(dynamics, flagged=None)
    dynamics.run(60)
    assert abs(steps - dynamics.nsteps) <= 1 and race.violation.criterion == monitor.halt_reason.criterion
    race.halting, race.violation, seen = False, None, race.evaluations
    context.loadCheckpoint(saved)
    context.getIntegrator().step(2)
    assert race.violation is not None and race.evaluations > seen and context.getStepCount() == steps + 2


def test_bad_input():
    served = Served(MODELS / "silicon", device="cpu")
    with pytest.raises(ValueError, match="does not know C, H; it knows Si"):
        OpenMMRace(served, ["Si", "C", "H"])
    import openmm

    atoms = bulk("Si", cubic=True)
    context, _ = context_of(atoms, OpenMMRace(served, ["Si"] * 5), openmm.VerletIntegrator(0.0005))
    context.setPositions(0.1 * atoms.positions)
    with pytest.raises(openmm.OpenMMException, match="8 particles and 5 symbols"):
        told(context)
