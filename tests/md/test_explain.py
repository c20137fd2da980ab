"""Why a run was ended: what the sentences say is so."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet
from fake_calculator import HarmonicEnsemble

from race_calc import Criterion, UncertaintyMonitor
from race_calc.md.explain import explanation
from race_calc.md.record import MonitorRecord
from race_calc.uncertainty.decisions import Decision, Violation
from race_calc.uncertainty.known_distances import KnownDistances

HALT = Violation(40, "forces_uncertainty_rms_epistemic", 0.4, 0.1, action="halt")


def frame(axis, sigma=(0.01, 0.5, 0.02)):
    """Water whose atom 1 is uncertain along an axis."""
    atoms = molecule("H2O")
    covariance = np.array([s**2 * np.eye(3) * 1e-2 for s in sigma])
    covariance[1] += sigma[1] ** 2 * np.outer(axis, axis)
    atoms.set_array("forces_uncertainty_max", np.array(sigma))
    atoms.set_array("forces_covariance", covariance.reshape(3, 9))
    return atoms


def told(atoms, records=(), known=None):
    return explanation(HALT, atoms, records, known, "flagged.xyz", "models/x")


def bond():
    water = molecule("H2O")
    vector = water.positions[0] - water.positions[1]
    return vector / np.linalg.norm(vector)


def test_atoms_and_the_direction_of_their_uncertainty():
    lines = told(frame(bond()))
    assert lines[0] == f"{HALT}." and "atom 1 (H) 0.5 eV/Å, atom 2 (H) 0.02" in lines[1] and "median atom has 0.02" in lines[1]
    assert "along its bond to atom 0 (O), 0.97 Å" in lines[2]
    assert "across its bonds" in told(frame([1.0, 0.0, 0.0]))[2]  # out of the plane
    across = np.cross(bond(), [1.0, 0.0, 0.0])
    assert "between its bonds" in told(frame((bond() + across) / np.sqrt(2)))[2]
    far = frame(bond())
    far.positions[1] += [0.0, 0.0, 3.0]
    assert "Atom 1 is bonded to none: the nearest is atom 0 (O)" in told(far)[2]
    alone = Atoms("H")
    alone.set_array("forces_uncertainty_max", np.array([0.5]))
    alone.set_array("forces_covariance", np.eye(3).reshape(1, 9))
    assert "Atom 0 is bonded to none." in told(alone)[2]


def test_distances_that_the_training_did_not_have():
    intervals = {(1, 8): np.array([[0.9, 1.0]]), (1, 1): np.array([[1.6, 1.8]])}
    known = KnownDistances(intervals, {(1, 8): 0.97, (1, 1): 0.6}, 4.0)
    assert "Distances that the training did not have: atom 1 (H) to atom 2 (H) 1.53 Å (nearest it had: 1.60 to 1.80)." in told(
        frame(bond()), known=known
    )
    intervals[1, 1] = np.array([[1.4, 1.8]])
    assert "Every distance is one that the training had." in told(frame(bond()), known=known)
    del intervals[1, 8]
    assert "H and O never met in it" in "".join(told(frame(bond()), known=known))
    assert any("does not say which distances" in line for line in told(frame(bond())))


def test_how_it_grew():
    records = [
        MonitorRecord(step=k, time=5.0 * k, temperature=300.0, energy=0.0, scores={HALT.criterion: 0.01 * 2**k}, decision=Decision())
        for k in range(15)
    ]
    (line,) = [line for line in told(frame(bond()), records) if line.startswith("In the last")]
    assert line == f"In the last 50 fs {HALT.criterion} went from 0.16 to 164, 1024.0 times as much."


def test_of_a_run(tmp_path):
    atoms = molecule("H2O")
    atoms.calc = HarmonicEnsemble(atoms)
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    monitor = UncertaintyMonitor(dynamics, [Criterion("forces_uncertainty_max", 1e9)], flagged=tmp_path / "some.xyz")
    dynamics.run(2)
    with pytest.raises(ValueError, match="no halt to explain"):
        monitor.explain()
    monitor.criteria = [Criterion("forces_uncertainty_max", 1e-12)]
    atoms.rattle(0.1, seed=0)
    dynamics.run(5)
    text = monitor.explain()
    assert text.startswith("halt at step") and f"race-calc label {tmp_path / 'some.xyz'} --with METHOD" in text
