"""MD on disk: ensembles, ramps, the halt; a run that is killed goes on to the same frames."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.io import read, write
from fake_calculator import HarmonicEnsemble
from typer.testing import CliRunner

from race_calc import read_log
from race_calc.cli import app
from race_calc.data.lock import RunningError, locked
from race_calc.md import session as sessions
from race_calc.md.session import Session, run_session, temperature_at
from race_calc.md.session_files import LOCK


class Stop(Exception):
    pass


def crystal():
    return with_calculator(bulk("Cu", cubic=True))


def with_calculator(atoms, threshold=1e3):
    atoms.calc = HarmonicEnsemble(atoms)
    names = ("rms_epistemic", "max_epistemic")
    atoms.calc.thresholds = {f"forces_uncertainty_{name}": threshold for name in names}
    return atoms


def stopping_at(step):
    def callback(record):
        if record.step == step:
            raise Stop

    return callback


@pytest.mark.parametrize("ensemble", ["nve", "nvt", "npt"])
def test_a_run_that_is_killed_goes_on_to_the_same_frames(ensemble, tmp_path, monkeypatch):
    monkeypatch.setattr(sessions, "SAVED", 7)
    plan = Session(ensemble, 300.0, 300.0, steps=30, every=5, seed=3)
    assert run_session(crystal(), plan, tmp_path / "whole") == sessions.Ended(30, None)
    for step in (4, 17, 26):
        with pytest.raises(Stop):
            run_session(crystal(), plan, tmp_path / "parts", stopping_at(step))
    assert run_session(crystal(), plan, tmp_path / "parts").steps == 30
    whole, parts = ((tmp_path / name / "trajectory.xyz").read_text() for name in ("whole", "parts"))
    assert whole == parts and len(read(tmp_path / "parts" / "trajectory.xyz", ":")) == 7
    before = {name: (tmp_path / "parts" / name).read_bytes() for name in ("trajectory.xyz", "state.json", "monitor.jsonl")}
    assert run_session(crystal(), plan, tmp_path / "parts").steps == 30  # done: nothing happens
    assert before == {name: (tmp_path / "parts" / name).read_bytes() for name in before}


def test_more_steps_go_on_where_it_ended(tmp_path):
    run_session(crystal(), Session(steps=10), tmp_path)
    assert run_session(crystal(), Session(steps=20), tmp_path).steps == 20
    assert [frame.info["step"] for frame in read(tmp_path / "trajectory.xyz", ":")] == [0, 10, 20]


def test_a_ramp_cannot_become_longer(tmp_path):
    run_session(crystal(), Session("nvt", 100.0, 300.0, steps=5), tmp_path)
    with pytest.raises(ValueError, match="another steps .a ramp of the temperature cannot become longer"):
        run_session(crystal(), Session("nvt", 100.0, 300.0, steps=10), tmp_path)


def test_files_of_others_stay(tmp_path):
    """Files without a run in the folder, another process at work there, and files that lost something since."""
    for name in ("trajectory.xyz", "flagged.xyz"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(ValueError, match=f"has {name} of something else: take another folder"):
            run_session(crystal(), Session(steps=5), tmp_path)
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    with locked(tmp_path, LOCK), pytest.raises(RunningError, match="works in"):
        run_session(crystal(), Session(steps=5), tmp_path)
    run_session(crystal(), Session(steps=5), tmp_path)
    (tmp_path / "monitor.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"monitor.jsonl is shorter than when the state of the run was written"):
        run_session(crystal(), Session(steps=10), tmp_path)


def test_a_refused_structure_ends_it_as_a_halt_does(tmp_path):
    class Refuses(HarmonicEnsemble):
        def prediction(self, atoms):
            if np.abs(atoms.positions - self.reference.positions).max() > 0.05:
                raise ValueError("too far out")
            return super().prediction(atoms)

    ended = []
    for _ in range(2):  # the second time from the state before it
        atoms = crystal()
        atoms.calc = Refuses(atoms, thresholds=atoms.calc.thresholds)
        ended.append(run_session(atoms, Session(steps=500, temperature=1000.0, end=1000.0), tmp_path))
    assert ended[0] == ended[1] and ended[0].steps < 500
    assert "the calculator refuses the structure: too far out" in str(ended[0].halt)
    assert "go back to an earlier frame, and take a shorter time step" in ended[0].explanation
    assert read_log(tmp_path / "monitor.jsonl")[-1].action[-1] == "halt"


def test_a_ramp():
    plan = Session("nvt", 300.0, 900.0, steps=100)
    assert [temperature_at(plan, step) for step in (0, 50, 100)] == [300.0, 600.0, 900.0]
    atoms = with_calculator(crystal() * (3, 3, 3))
    dynamics = sessions.dynamics_of(atoms, Session("nvt", 300.0, 1500.0, steps=50, friction=0.1))
    dynamics.run(50)
    assert dynamics.temp == pytest.approx(temperature_at(Session("nvt", 300.0, 1500.0, steps=50), 51) * 8.617330337217213e-05)


def test_the_halt_is_kept(tmp_path):
    atoms = with_calculator(molecule("H2O"), 1e-9)
    ended = run_session(atoms, Session(steps=50, temperature=500.0, end=500.0), tmp_path)
    assert ended.halt is not None and ended.steps < 50
    again = run_session(atoms, Session(steps=50, temperature=500.0, end=500.0), tmp_path)
    assert again == ended and ended.explanation.startswith(f"{ended.halt}.\nLeast known are the forces on atom")
    state = json.loads((tmp_path / "state.json").read_text())
    del state["explanation"]  # as earlier releases wrote it
    (tmp_path / "state.json").write_text(json.dumps(state))
    assert run_session(atoms, Session(steps=50, temperature=500.0, end=500.0), tmp_path).explanation == str(ended.halt)
    assert len(read(tmp_path / "flagged.xyz", ":")) >= 1 and read_log(tmp_path / "monitor.jsonl")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"ensemble": "nph"}, "nve, nvt, npt"),
        ({"ensemble": "npt", "end": 400.0}, "ensemble nvt"),
        ({"timestep": 0.0}, "timestep must be above 0"),
        ({"timestep": float("inf")}, "timestep must be above 0 and finite"),
        ({"pressure": float("nan")}, "pressure must be a number"),
        ({"ensemble": "npt", "temperature": 0.0, "end": 0.0}, "relax --cell"),
        ({"temperature": -1.0}, "0 K or above"),
    ],
)
def test_what_is_not_possible(change, message):
    with pytest.raises(ValueError, match=message):
        Session(**change)


def test_folders_of_other_runs(tmp_path):
    run_session(crystal(), Session(steps=5), tmp_path)
    with pytest.raises(ValueError, match="with another seed: give the same"):
        run_session(crystal(), Session(steps=5, seed=1), tmp_path)
    other = with_calculator(crystal() * (2, 1, 1))
    with pytest.raises(ValueError, match="another start structure"):
        run_session(other, Session(steps=5), tmp_path)
    moved = crystal()
    moved.positions[0, 0] += 0.1
    with pytest.raises(ValueError, match="another start structure"):
        run_session(moved, Session(steps=5), tmp_path)
    potential = crystal()
    potential.calc.model_hash = "of other weights"
    with pytest.raises(ValueError, match="with another model"):
        run_session(potential, Session(steps=5), tmp_path)
    old = json.loads((tmp_path / "state.json").read_text())
    del old["origin"]  # as earlier releases wrote it
    (tmp_path / "state.json").write_text(json.dumps(old))
    assert run_session(crystal(), Session(steps=6), tmp_path).steps == 6
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        run_session(crystal(), Session(steps=5), tmp_path)
    atoms = with_calculator(molecule("H2O"))
    with pytest.raises(ValueError, match="constant pressure"):
        run_session(atoms, Session("npt"), tmp_path / "npt")


def test_the_command(tiny_model, tmp_path):
    write(tmp_path / "start.xyz", molecule("CH3CH2OH"))
    command = ["md", str(tiny_model), str(tmp_path / "start.xyz"), "--out", str(tmp_path / "run"), "--steps", "6", "--every", "2"]
    done = CliRunner().invoke(app, [*command, "--temperature", "100:300"])
    assert done.exit_code in (0, 3), done.output
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert state["session"]["end"] == 300.0 and Path(tmp_path / "run" / "monitor.jsonl").exists()
    frames = read(tmp_path / "run" / "trajectory.xyz", ":")
    assert "forces_covariance" in frames[0].arrays and np.isfinite(frames[-1].get_potential_energy())
    again = CliRunner().invoke(app, [*command, "--temperature", "100:300", "--json"])
    told = json.loads(again.stdout)
    assert told["folder"] == str(tmp_path / "run") and 0 < told["steps"] <= 6 and (again.exit_code == 3) == bool(told["halt"])
    bad = CliRunner().invoke(app, [*command, "--temperature", "warm"])
    assert bad.exit_code == 1 and "300:1000" in bad.output
