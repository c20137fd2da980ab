"""Why a run was ended: what the sentences say is so."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet
from fake_calculator import HarmonicEnsemble

from race_calc import Criterion, RACECalculator, UncertaintyMonitor
from race_calc.data.graph import from_atoms
from race_calc.md.explain import Growth, compared, explanation
from race_calc.train.familiar import environments_of
from race_calc.uncertainty.decisions import Violation

HALT = Violation(40, "forces_uncertainty_rms_epistemic", 0.4, 0.1, action="halt")


def frame(axis, sigma=(0.01, 0.5, 0.02)):
    """Water whose atom 1 is uncertain along an axis."""
    atoms = molecule("H2O")
    covariance = np.array([s**2 * np.eye(3) * 1e-2 for s in sigma])
    covariance[1] += sigma[1] ** 2 * np.outer(axis, axis)
    atoms.set_array("forces_uncertainty_max", np.array(sigma))
    atoms.set_array("forces_covariance", covariance.reshape(3, 9))
    return atoms


def told(atoms, growth=None, known=None):
    return explanation(str(HALT), atoms, growth, compared(atoms, known))


def trained_on(*structures):
    return environments_of([from_atoms(atoms, 4.0) for atoms in structures], 4.0)


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


def test_what_the_training_did_not_have():
    water = molecule("H2O")
    every = "Every distance, bond angle and number of bonds, taken alone, is one that the training had"
    assert f"{every}, and none is near its end: new is how they come together." in told(frame(bond()), known=trained_on(*9 * [water]))
    stretched = water.copy()
    stretched.set_distance(0, 1, 1.01, fix=0)
    known = trained_on(*399 * [water], stretched)
    (line,) = [line for line in told(stretched, known=known) if line.startswith(f"{every}. Nearest to its end: ")]
    assert "atom 0 (O) to atom 1 (H) 1.01 Å (1 in 400 such structures has one as far out)" in line
    stretched.set_distance(0, 1, 1.03, fix=0)
    assert "atom 0 (O) to atom 1 (H) 1.03 Å (none of the training's is as far out)" in " ".join(told(stretched, known=known))
    near = water.copy()
    near.set_angle(1, 0, 2, 95)
    lines = told(frame(bond()), known=trained_on(near))
    assert "Distances that the training did not have: atom 1 (H) to atom 2 (H) 1.53 Å (nearest it had: 1.42 to 1.44)." in lines
    (angle,) = [line for line in lines if line.startswith("Bond angles")]
    assert angle.endswith("atom 1 (H), atom 0 (O), atom 2 (H) 104° (nearest it had: 94 to 96).")
    lost = trained_on(molecule("OH"), molecule("H2"))
    (bonds,) = [line for line in told(frame(bond()), known=lost) if line.startswith("Numbers of bonds")]
    assert bonds.startswith("Numbers of bonds that the training did not have: atom 0 (O) is bonded to 2 H (it had 1)")
    assert "atom 0 (O) is bonded to 2 H (it had 0)" in "".join(told(frame(bond()), known=trained_on(molecule("H2"), molecule("O2"))))
    assert "H and O never met in it" in "".join(told(frame(bond()), known=trained_on(molecule("H2"), molecule("O2"))))
    assert "The training had no O." in told(frame(bond()), known=trained_on(molecule("H2")))
    ring = trained_on(molecule("C2H2"))
    assert "it had no C–C–C" in " ".join(told(molecule("C6H6"), known=ring))
    assert not any("the training" in line for line in told(frame(bond())))


def test_many_are_counted_and_an_exploded_frame_has_none():
    atoms = molecule("C6H6")
    atoms.rattle(0.4, seed=0)
    lines = told(atoms, known=trained_on(molecule("C6H6")))
    assert any(line.startswith("Distances") and "; and " in line and " more." in line for line in lines)
    atoms.positions[0] = np.nan
    assert not any("the training" in line for line in told(atoms, known=trained_on(molecule("C6H6"))))


def test_how_it_grew():
    times, values = 5.0 * np.arange(15), 0.01 * 2.0 ** np.arange(15)
    (line,) = [line for line in told(frame(bond()), Growth(HALT.criterion, times, values)) if line.startswith("In the last")]
    assert line == f"In the last 50 fs {HALT.criterion} went from 0.16 to 164, 1024.0 times as much."
    times, values = np.array([0.0, 10, 20, 60, 61, 1, 2, 3]), np.array([0.1, 0.2, 0.4, 0.5, 1.0, 0.1, 0.2, 0.3])  # it went back
    assert any(
        "In the last 2 fs" in line and "from 0.1 to 0.3" in line for line in told(frame(bond()), Growth(HALT.criterion, times, values))
    )
    for times, values in (([], []), ([1.0], [1.0]), ([np.nan, np.nan], [1.0, 2.0]), ([0.0, 1.0], [0.0, 1.0])):
        growth = Growth(HALT.criterion, np.array(times), np.array(values))
        assert not any(line.startswith("In the last") for line in told(frame(bond()), growth))


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


def test_forces_that_are_no_numbers(tmp_path):
    atoms = molecule("H2O")
    atoms.calc = HarmonicEnsemble(atoms, broken_after=3)
    atoms.rattle(0.1, seed=0)
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    monitor = UncertaintyMonitor(dynamics, [Criterion("forces_uncertainty_max", 1e9)], flagged=None)
    dynamics.run(10)
    text = monitor.explain()
    assert "is not a finite number" in text
    assert "race-calc" not in text  # nothing was saved, and this is no model of the package


def test_a_model_without_them_says_so_and_names_what_to_do(tiny_model, tmp_path):
    atoms = molecule("CH3CH2OH")
    atoms.calc = RACECalculator(tiny_model)
    dynamics = VelocityVerlet(atoms, 0.1 * units.fs)
    monitor = UncertaintyMonitor(dynamics, [Criterion("forces_uncertainty_max", 1e-12)], flagged=tmp_path / "a.xyz")
    dynamics.run(2)
    text = monitor.explain()
    assert "does not say which distances" in text and f"race-calc train --from {Path(tiny_model).resolve()}" in text
