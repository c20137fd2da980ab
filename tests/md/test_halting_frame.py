"""The halting frame is always there, and `atoms.info` survives the file."""

import json
import subprocess
import sys

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.io import read
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from ase.optimize import FIRE
from fake_calculator import HarmonicEnsemble, water

from race_calc import Criterion, UncertaintyMonitor
from race_calc.md.record import annotate, append_frame

FORCE = "forces_uncertainty_max_epistemic"


@pytest.mark.parametrize("optimiser", [False, True])
def test_the_halting_frame_is_in_memory_and_in_the_trajectory(optimiser, tmp_path):
    atoms = water()
    atoms.positions[0, 1] += 0.3
    options = {"trajectory": str(tmp_path / "run.traj"), "loginterval": 10, "logfile": None}
    dyn = FIRE(atoms, **options) if optimiser else VelocityVerlet(atoms, 0.5 * units.fs, **options)
    monitor = UncertaintyMonitor(dyn, [Criterion(FORCE, 0.0, consecutive=3)], flagged=None)
    tight = {"fmax": 1e-9} if optimiser else {}
    dyn.run(steps=30, **tight)
    assert monitor.halt_reason.step == dyn.nsteps == 2
    frames = read(tmp_path / "run.traj", ":")
    assert len(frames) == 2  # the first and the last
    np.testing.assert_array_equal(frames[-1].positions, atoms.positions)
    frame = monitor.halting_frame
    assert frame is not atoms and frame.info["run"] == monitor.run_id and frame.info["step"] == 2
    assert frame.info["violations"] == FORCE and frame.info[f"score_{FORCE}"] == monitor.halt_reason.value
    np.testing.assert_array_equal(frame.positions, atoms.positions)
    np.testing.assert_allclose(frame.get_forces(), atoms.calc.prediction(atoms).forces)
    monitor.accept(checks=3)
    assert monitor.halting_frame is None and monitor.halt_reason is None
    dyn.run(steps=2, **tight)
    assert monitor.halting_frame is None and dyn.nsteps == 4
    assert len(read(tmp_path / "run.traj", ":")) == 2


def test_a_step_of_the_trajectory_is_not_written_twice(tmp_path):
    atoms = water()
    atoms.positions[0, 1] += 0.3
    dyn = VelocityVerlet(atoms, 0.5 * units.fs, trajectory=str(tmp_path / "run.traj"), loginterval=2)
    UncertaintyMonitor(dyn, [Criterion(FORCE, 0.0, consecutive=3)], flagged=None)
    dyn.run(9)
    assert dyn.nsteps == 2 and len(read(tmp_path / "run.traj", ":")) == 2


def test_an_exploded_structure_is_kept_but_not_written(tmp_path):
    atoms = water()
    dyn = VelocityVerlet(atoms, 0.5 * units.fs)
    monitor = UncertaintyMonitor(dyn, [Criterion(FORCE, 9.0)], flagged=tmp_path / "f.xyz")

    def squeeze():
        if dyn.nsteps == 2:
            atoms.positions[1] = atoms.positions[0] + [0, 0, 0.2]

    dyn.insert_observer(squeeze, 0)
    dyn.run(9)
    assert monitor.halting_frame.info["violations"] == "structure" and monitor.halting_frame.info["step"] == 2
    np.testing.assert_array_equal(monitor.halting_frame.positions, atoms.positions)
    assert not (tmp_path / "f.xyz").exists()


def test_broken_forces_are_kept_too():
    atoms = water(broken_after=4)
    dyn = Langevin(atoms, 0.5 * units.fs, temperature_K=300, friction=0.1, fixcm=False, rng=np.random.default_rng(1))
    monitor = UncertaintyMonitor(dyn, [Criterion(FORCE, 9.0)], flagged=None)
    dyn.run(20)
    frame = monitor.halting_frame
    assert frame.info["step"] == 4 and np.isnan(frame.calc.results["forces"][2]).all()


INFO = {
    "quotes": "he said \"no\", she'd 'yes'",
    "newlines": "first\nsecond\r\nthird\n",
    "backslash": r"C:\new\table \" end\\",
    "number": "12",
    "numbers": "1 2 3",
    "truth": "T",
    "empty": "",
    "tab": "a\tb",
    "equals": "a=b c=d",
    "brackets": "{[(",
    "umlaut": "Müller – Å",
    "json": '_JSON {"a": 1}',
    "none": None,
    "nested": {"a": ['x "y"', {"b": "c\nd"}], "e": 1.5},
    "words": ["a b", 'c"d', "e\\f"],
    "int": 3,
    "float": 0.1,
    "yes": True,
    "no": False,
    "vector": [1.0, 2.5, -3.0],
    "matrix": [[1, 2], [3, 4]],
    "key with spaces": "x",
    "key=equals": "x y",
    'key"quote': 1,
    "T_source": "train_300K",
}


def test_info_survives_the_file_in_a_fresh_process(tmp_path):
    atoms = molecule("H2O")
    atoms.info = dict(INFO) | {"array": np.arange(3), "np_text": np.str_('a "b"')}
    path = tmp_path / "frames.xyz"
    calc = HarmonicEnsemble(atoms)
    for _ in range(2):
        append_frame(path, annotate(atoms, calc.prediction(atoms)))
    program = """
import json, sys
from ase.io import read
frames = read(sys.argv[1], ':')
def plain(v): return v.tolist() if hasattr(v, 'tolist') else v
print(json.dumps([{k: plain(v) for k, v in frame.info.items()} for frame in frames]))
"""
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for found in json.loads(done.stdout):
        assert {key: found.get(key, "is missing") for key in INFO} == INFO
        assert found["array"] == [0, 1, 2] and found["np_text"] == 'a "b"' and found["labels"] == "predicted"
    assert len(path.read_text().splitlines()) == 2 * (3 + 2)


def test_keys_that_the_format_uses_itself_do_no_harm(tmp_path):
    atoms = molecule("H2O")
    atoms.info = {"Lattice": "x", "pbc": "none", "Properties": 'a "b"', "virial": [1.0] * 6, 7: "seven", "two\nlines": 1, "": 2}
    frame = annotate(atoms, HarmonicEnsemble(atoms).prediction(atoms))
    append_frame(tmp_path / "f.xyz", frame)
    found = read(tmp_path / "f.xyz")
    assert found.info["Lattice_"] == "x" and found.info["pbc_"] == "none" and found.info["Properties_"] == 'a "b"'
    assert found.info["virial_"].tolist() == [1.0] * 6 and found.info["7"] == "seven" and found.info["two lines"] == 1
    assert found.info["_"] == 2 and not found.pbc.any() and len(found) == 3


def test_flagged_frames_keep_their_info(tmp_path):
    atoms = water()
    atoms.info["comment"] = 'one "two"\nthree'
    atoms.positions[0, 1] += 0.3
    dyn = VelocityVerlet(atoms, 0.5 * units.fs)
    UncertaintyMonitor(dyn, [Criterion(FORCE, 0.0)], flagged=tmp_path / "f.xyz")
    dyn.run(3)
    assert read(tmp_path / "f.xyz").info["comment"] == atoms.info["comment"] == 'one "two"\nthree'
