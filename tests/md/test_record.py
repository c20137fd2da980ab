"""Annotated frames survive the file, read in a fresh process."""

import json
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.io import read
from ase.md.verlet import VelocityVerlet
from fake_calculator import HarmonicEnsemble

from race_calc.md.record import annotate, append_frame, record_uncertainties

READER = """
import json, sys
import numpy as np
from types import SimpleNamespace
from ase.io import read
from ase.gui.view import View
frames = read(sys.argv[1], ':')
a = frames[-1]
gui = {k: View.get_color_scalars(SimpleNamespace(colormode=k, atoms=a)).tolist()
       for k in ('forces_uncertainty_max', 'bald_forces')}
print(json.dumps({
    'frames': len(frames), 'energy': a.get_potential_energy(), 'forces': a.get_forces().tolist(),
    'stress': a.get_stress().tolist() if a.pbc.any() else None,
    'arrays': {k: v.tolist() for k, v in a.arrays.items() if v.dtype.kind == 'f'},
    'info': {k: v for k, v in a.info.items() if isinstance(v, float)}, 'gui': gui}))
"""


@pytest.mark.parametrize("atoms", [molecule("H2O"), bulk("Cu", cubic=True), Atoms("H")], ids=["molecule", "crystal", "one atom"])
def test_round_trip_in_a_fresh_process(atoms, tmp_path):
    calc = HarmonicEnsemble(atoms)
    atoms = atoms.copy()
    atoms.rattle(0.1, seed=1)
    atoms.info["energy"] = 99.0  # an old label must not get in the way
    atoms.calc = calc
    prediction = calc.prediction(atoms)
    path = tmp_path / "frames.xyz"
    for _ in range(2):
        append_frame(path, annotate(atoms, prediction))
    assert atoms.calc is calc and "bald_forces" not in atoms.arrays and atoms.info == {"energy": 99.0}

    done = subprocess.run([sys.executable, "-c", READER, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    n = len(atoms)
    assert found["frames"] == 2
    assert found["energy"] == pytest.approx(prediction.energy[0], abs=1e-7)
    np.testing.assert_allclose(found["forces"], prediction.forces, atol=1e-7)
    if atoms.pbc.any():
        np.testing.assert_allclose(found["stress"], prediction.stress[0], atol=1e-7)
    covariance = np.array(found["arrays"]["forces_covariance"]).reshape(n, 3, 3)
    np.testing.assert_allclose(covariance, prediction.forces_covariance, atol=1e-7)
    np.testing.assert_allclose(found["arrays"]["bald_forces"], prediction.bald_forces, atol=1e-7)
    for key in ("forces_uncertainty_max", "bald_forces"):
        assert np.shape(found["gui"][key]) == (n,)
    assert found["info"]["energy_uncertainty"] == pytest.approx(prediction.energy_uncertainty[0])
    assert found["info"]["bald_energy"] == pytest.approx(prediction.bald_energy[0])
    largest = max(found["arrays"]["forces_uncertainty_max"])
    assert found["info"]["score_forces_uncertainty_max"] == pytest.approx(largest, abs=1e-7)


def test_what_the_posterior_does_not_give_is_left_out():
    atoms = molecule("H2O")
    frame = annotate(atoms, HarmonicEnsemble(atoms, springs=(1.0,), aleatoric=False).prediction(atoms))
    assert not {"bald_forces", "forces_covariance", "forces_uncertainty_max"} & set(frame.arrays)
    assert frame.info == {"calibrated": False, "labels": "predicted"}


def test_a_prediction_of_other_atoms_is_refused():
    atoms = molecule("H2O")
    with pytest.raises(ValueError, match="3 atoms"):
        annotate(atoms, HarmonicEnsemble(atoms[:2]).prediction(atoms[:2]))


def test_record_uncertainties_replaces_or_appends(tmp_path):
    path = tmp_path / "run.xyz"
    for append, expected in ((False, [0, 2, 4]), (False, [0, 2, 4]), (True, [0, 2, 4] * 2)):
        atoms = molecule("H2O")
        atoms.calc = HarmonicEnsemble(atoms)
        atoms.rattle(0.05)
        dyn = VelocityVerlet(atoms, 0.5 * units.fs)
        record_uncertainties(dyn, path, interval=2, append=append)
        dyn.run(4)
        frames = read(path, ":")
        assert [frame.info["step"] for frame in frames] == expected
        assert atoms.calc.evaluations == 5
    np.testing.assert_allclose(frames[-1].get_forces(), atoms.get_forces(), atol=1e-7)


def test_every_step_is_written_unless_said_otherwise(tmp_path):
    atoms = molecule("H2O")
    atoms.calc = HarmonicEnsemble(atoms)
    dynamics = VelocityVerlet(atoms, units.fs)
    record_uncertainties(dynamics, tmp_path / "run.xyz")
    dynamics.run(3)
    assert len(read(tmp_path / "run.xyz", ":")) == 4
