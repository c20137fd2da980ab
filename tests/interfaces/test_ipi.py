"""i-PI against RACECalculator: ring polymers in one evaluation, a driver behind a socket, the committee, the halt and a restart."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.socketio import actualunixsocketname
from ase.io import read, write
from ase.md.verlet import VelocityVerlet

from race_calc import RACECalculator, UncertaintyMonitor

HERE = Path(__file__).parent
MODELS = HERE.parents[1] / "models"
PES = HERE.parents[1] / "race_calc" / "interfaces" / "ipi_pes.py"
pytestmark = pytest.mark.skipif(importlib.util.find_spec("ipi") is None, reason="no ipi: pip install 'race_calc[ipi]'")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def run(folder, atoms, model, beads=1, steps=1, rattle=0.0, forcefield=None):
    """What ipi_run.py tells."""
    write(folder / "start.extxyz", atoms)
    case = {"structure": str(folder / "start.extxyz"), "model": str(MODELS / model), "pes": str(PES), "beads": beads, "steps": steps}
    case |= {"rattle": rattle, "forcefield": forcefield, "out": str(folder / "found.json")}
    command = [sys.executable, str(HERE / "ipi_run.py"), json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=ONE_THREAD, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-1000:]
    return json.loads((folder / "found.json").read_text())


def in_ev(*quantities):
    """The units of i-PI in those of ASE."""
    from ipi.utils.units import unit_to_internal

    names = {"energy": "electronvolt", "force": "ev/ang", "length": "angstrom"}
    return [1.0 / unit_to_internal(quantity, names[quantity], 1.0) for quantity in quantities]


def molecule_of_3bpa(seed=0):
    atoms = read(MODELS / "3bpa-de" / "start.xyz")
    atoms.rattle(0.02, seed=seed)
    return atoms


def compare(found, atoms, model):
    """Every bead against RACECalculator."""
    energy, force, length = in_ev("energy", "force", "length")
    calc = RACECalculator(MODELS / model, "cpu")
    for b, q in enumerate(found["positions"]):
        bead = atoms.copy()
        bead.positions = length * np.reshape(q, (-1, 3))
        if atoms.pbc.any():
            bead.cell[:] = length * np.transpose(found["cell"])
        p = calc.prediction(bead)
        assert energy * found["energies"][b] == pytest.approx(p.energy[0], abs=1e-9)
        np.testing.assert_allclose(force * np.reshape(found["forces"][b], (-1, 3)), p.forces, atol=1e-8)
        expected = np.zeros((3, 3)) if p.stress is None else -p.stress[0][[[0, 5, 4], [5, 1, 3], [4, 3, 2]]] * bead.cell.volume
        np.testing.assert_allclose(energy * np.array(found["virials"][b]), np.triu(expected), atol=1e-8)  # i-PI keeps the upper triangle
        extras = {name: values[b] for name, values in found["extras"].items()}
        assert energy * extras["energy_uncertainty"] == pytest.approx(p.energy_uncertainty[0], abs=1e-9)
        largest = np.sqrt(np.linalg.eigvalsh(p.forces_covariance)[:, -1])
        np.testing.assert_allclose(force * np.array(extras["forces_uncertainty"]), largest, rtol=0, atol=1e-9)
        members = energy * np.array(extras["committee_pot"])
        assert members.mean() == pytest.approx(p.energy[0], abs=1e-9)
        assert members.std(ddof=1) == pytest.approx(np.sqrt(p.energy_epistemic[0]), abs=1e-9)
        forces = force * np.array(extras["committee_force"]).reshape(len(members), -1, 3)
        np.testing.assert_allclose(forces.mean(0), p.forces, atol=1e-8)
        virials = energy * np.array(extras["committee_virial"]).reshape(-1, 3, 3)
        np.testing.assert_allclose(virials.mean(0), expected, atol=1e-8)
        # a member's forces and virial are stretched as its energy is
        factor = (members - members.mean()) / (p.energies_members[:, 0] - p.energies_members[:, 0].mean())
        np.testing.assert_allclose(factor, factor[0], rtol=1e-3)
        wanted = (p.forces_members - p.forces_members.mean(0)) * factor.mean()
        np.testing.assert_allclose(forces - forces.mean(0), wanted, atol=1e-6)
        if p.stress is not None:
            assert np.linalg.norm(virials - virials.mean(0)) > 1e-3


def test_beads_are_evaluated_together(tmp_path):
    atoms = molecule_of_3bpa()
    compare(run(tmp_path, atoms, "3bpa-de", beads=3, steps=2, rattle=0.02), atoms, "3bpa-de")


def test_a_crystal_has_its_virial(tmp_path):
    atoms = bulk("Si", cubic=True)
    atoms.set_cell(atoms.cell.array @ np.array([[1.02, 0.0, 0.0], [0.05, 1.0, 0.0], [0.1, -0.03, 0.99]]), scale_atoms=True)
    compare(run(tmp_path, atoms, "silicon", rattle=0.1), atoms, "silicon")


def test_the_halt_is_that_of_ase_and_the_run_goes_on_from_its_restart(tmp_path):
    """NVE of a molecule that loses an atom."""
    atoms = molecule_of_3bpa(2)
    momenta = np.zeros((len(atoms), 3))
    momenta[np.argmax(atoms.positions[:, 0]), 0] = np.sqrt(2 * 1.008 * 8.0)  # 8 eV
    atoms.set_momenta(momenta)
    run(tmp_path, atoms, "3bpa-de", steps=0)
    steps = _run_on(tmp_path, 60)
    atoms.calc = RACECalculator(MODELS / "3bpa-de", "cpu")
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    monitor = UncertaintyMonitor(dynamics, flagged=None)
    dynamics.run(60)
    assert monitor.halt_reason is not None and 0 < dynamics.nsteps < 60
    assert abs(steps - dynamics.nsteps) <= 1
    assert monitor.halt_reason.criterion in (tmp_path / "EXIT").read_text()
    (tmp_path / "EXIT").unlink()
    assert _run_on(tmp_path, 60) == steps + 1  # it goes on, and the next step is too far as well


def test_a_driver_behind_a_socket_and_a_committee(tmp_path):
    atoms = molecule_of_3bpa(1)
    write(tmp_path / "start.extxyz", atoms)
    name = f"race-{os.getpid()}"
    socket = f"<ffsocket name='sock' mode='unix' pbc='False'><address>{name}</address></ffsocket>"
    committee = f"<ffcommittee name='race'>{socket}<parse_json>True</parse_json></ffcommittee>"
    wait = f"import time, os\nwhile not os.path.exists({actualunixsocketname(name)!r}): time.sleep(0.1)\n"
    wait += "from race_calc.cli import app; app()"
    command = [sys.executable, "-c", wait, "ipi-driver", str(MODELS / "3bpa-de"), "start.extxyz", "--unix", name]
    driver = subprocess.Popen(command, cwd=tmp_path, env=ONE_THREAD, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        found = run(tmp_path, atoms, "3bpa-de", beads=2, steps=2, rattle=0.01, forcefield=committee)
        told, _ = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert driver.returncode == 0, told
    energy, force, length = in_ev("energy", "force", "length")
    calc = RACECalculator(MODELS / "3bpa-de", "cpu")
    for b, q in enumerate(found["positions"]):
        bead = atoms.copy()
        bead.positions = length * np.reshape(q, (-1, 3))
        p = calc.prediction(bead)
        assert energy * found["energies"][b] == pytest.approx(p.energy[0], abs=1e-9)
        np.testing.assert_allclose(force * np.reshape(found["forces"][b], (-1, 3)), p.forces, atol=1e-8)
        assert energy * found["extras"]["committee_uncertainty"][b] == pytest.approx(np.sqrt(p.energy_epistemic[0]), abs=1e-9)
    assert (tmp_path / "RESTART").exists()


def _run_on(folder, until):
    """Start `i-pi RESTART`; the step that the next RESTART is of."""
    path = folder / "RESTART"
    text = re.sub("<total_steps>.*</total_steps>", "", path.read_text())
    path.write_text(text.replace("</simulation>", f"<total_steps>{until}</total_steps></simulation>"))
    program = str(Path(sys.executable).with_name("i-pi"))
    done = subprocess.run([program, "RESTART"], capture_output=True, text=True, timeout=60, env=ONE_THREAD, cwd=folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return int(re.search(r"<step>\s*(\d+)\s*</step>", path.read_text())[1])
