"""What `annotate` writes comes back from extxyz, a trajectory and a database, in a process that knows nothing of race_calc."""

import json
import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.calculator import get_calculator_class
from ase.calculators.emt import EMT
from ase.db import connect
from ase.io import write

from race_calc import RACECalculator, annotate

READER = """
import json, sys
import numpy as np
from ase.db import connect
from ase.io import read
names = ['energy_uncertainty', 'bald_energy', 'stress_uncertainty', 'forces_covariance', 'forces_uncertainty_max', 'calibrated', 'labels']
found = {}
for path in sys.argv[1:]:
    if path.endswith('.db'):
        row = next(connect(path).select())
        atoms, kept = row.toatoms(), row.data
    else:
        atoms = read(path)
        kept = atoms.info | atoms.arrays
    told = {name: np.array(kept[name]).tolist() for name in names if name in kept}
    found[path] = told | {'energy': atoms.get_potential_energy(), 'forces': atoms.get_forces().tolist()}
assert 'race_calc' not in sys.modules
print(json.dumps(found))
"""


@pytest.mark.parametrize("atoms", [molecule("CH3CH2OH"), bulk("C", cubic=True)], ids=["molecule", "crystal"])
def test_round_trips(tiny_model, atoms, tmp_path):
    atoms = atoms.copy()
    atoms.rattle(0.05, seed=1)
    atoms.calc = RACECalculator(tiny_model)
    frame, paths = annotate(atoms), [str(tmp_path / f"frame.{kind}") for kind in ("xyz", "traj", "db")]
    for path in paths[:2]:
        write(path, frame)
    connect(paths[2]).write(frame, data=frame.info | frame.arrays)
    done = subprocess.run([sys.executable, "-c", READER, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    p = atoms.calc.prediction(atoms)
    for path, found in json.loads(done.stdout).items():
        assert found["energy"] == pytest.approx(p.energy[0], abs=1e-7)
        np.testing.assert_allclose(found["forces"], p.forces, atol=1e-7)
        assert ("forces_covariance" in found) != path.endswith("traj")  # of arrays a trajectory keeps ASE's own
        if "forces_covariance" in found:
            np.testing.assert_allclose(np.reshape(found["forces_covariance"], (-1, 3, 3)), p.forces_covariance, atol=1e-7)
        assert found["energy_uncertainty"] == pytest.approx(p.energy_uncertainty[0], abs=1e-7)
        assert found["bald_energy"] == pytest.approx(p.bald_energy[0], abs=1e-7)
        assert ("stress_uncertainty" in found) == bool(atoms.pbc.any())
        if atoms.pbc.any():
            np.testing.assert_allclose(found["stress_uncertainty"], p.stress_uncertainty[0], atol=1e-7)
        assert found["labels"] == "predicted" and found["calibrated"] is False


def test_atoms_without_such_a_calculator():
    atoms = bulk("Cu")
    for atoms.calc in (None, EMT()):
        with pytest.raises(ValueError, match="no calculator with uncertainties"):
            annotate(atoms)


def test_ase_makes_the_calculator_by_its_name(tiny_model, tmp_path):
    """As a row of a database says what made it."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = RACECalculator(tiny_model, dtype="float32")
    energy = atoms.get_potential_energy()
    database = connect(tmp_path / "some.db")
    database.write(atoms)
    row = next(database.select(calculator="race"))
    again = row.toatoms()
    again.calc = get_calculator_class(row.calculator)(**row.calculator_parameters)
    assert isinstance(again.calc, RACECalculator) and again.calc.parameters["dtype"] == "float32"
    assert again.get_potential_energy() == energy
