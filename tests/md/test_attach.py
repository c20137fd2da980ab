"""The monitor on ASE molecular dynamics, with a fake ensemble."""

import json
import logging

import numpy as np
import pytest
from ase import units
from ase.calculators.emt import EMT
from ase.io import read
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from fake_calculator import water

from race_calc.md.attach import UncertaintyMonitor
from race_calc.md.saving import Spacing
from race_calc.uncertainty.decisions import Criterion

FORCE = "forces_uncertainty_max_epistemic"


def langevin(atoms, **kwargs):
    return Langevin(atoms, 0.5 * units.fs, temperature_K=300, friction=0.1, fixcm=False, rng=np.random.default_rng(1), **kwargs)


def lines(path):
    def strict(constant):
        raise ValueError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=strict) for line in path.read_text().splitlines()]


def pull(atoms, step_length=0.01):
    """Moves one atom away from its reference a little at every step."""

    def move():
        atoms.positions[0, 0] += step_length

    return move


def test_one_model_evaluation_per_step_and_one_line_per_check(tmp_path):
    atoms = water()
    log = tmp_path / "monitor.jsonl"
    dyn = langevin(atoms)
    monitor = UncertaintyMonitor(dyn, [Criterion("bald_forces_max", 1e9)], logfile=log, interval=5, quiet=1)
    dyn.run(20)
    assert atoms.calc.evaluations == 21
    start, *steps = lines(log)
    assert start["event"] == "start" and start["criteria"][0]["threshold"] == 1e9
    assert [line["step"] for line in steps] == [0, 5, 10, 15, 20]
    last = steps[-1]
    assert last["time"] == pytest.approx(10.0)
    assert last["temperature"] == pytest.approx(atoms.get_temperature())
    assert last["energy"] == pytest.approx(atoms.get_potential_energy())
    assert set(last["scores"]) >= {"bald_energy", "bald_forces_max", "forces_uncertainty_max", FORCE}
    assert last["violations"] == [] and last["action"] is None
    assert monitor.halt_reason is None and monitor.record.step == 20


def test_halt_says_why_saves_the_frame_and_leaves_nothing_beyond_it(tmp_path, caplog):
    atoms = water()
    trajectory, flagged, log = (tmp_path / name for name in ("md.traj", "flagged.xyz", "m.jsonl"))
    dyn = VelocityVerlet(atoms, 0.5 * units.fs, trajectory=str(trajectory))
    # std between the members: std(k) · displacement of the first atom
    limit = np.std([0.9, 1.0, 1.1]) * 0.055
    monitor = UncertaintyMonitor(dyn, [Criterion(FORCE, limit)], logfile=log, flagged=flagged)
    atoms.set_momenta(np.zeros((3, 3)))
    dyn.insert_observer(pull(atoms), 0)
    with caplog.at_level(logging.WARNING, logger="race_calc"):
        dyn.run(100)
    reason = monitor.halt_reason
    assert 4 <= reason.step <= 10 and reason.step == dyn.nsteps
    assert (reason.criterion, reason.atom_index, reason.element) == (FORCE, 0, "O")
    assert reason.value > reason.threshold == limit
    assert f"halt at step {reason.step}" in caplog.text and "atom 0 (O)" in str(reason)

    frames = read(trajectory, ":")
    assert len(frames) == reason.step + 1
    np.testing.assert_allclose(frames[-1].positions, atoms.positions)
    (saved,) = read(flagged, ":")
    assert saved.info["step"] == reason.step and saved.info["violations"] == FORCE
    np.testing.assert_allclose(saved.positions, atoms.positions, atol=1e-7)
    last = lines(log)[-1]
    assert last["action"] == "halt" and last["message"] == str(reason)
    assert last["violations"][0]["element"] == "O"


def test_runs_ahead_of_a_trajectory_given_to_the_constructor():
    order = []

    class Memory:
        def set_description(self, description):
            pass

        def __len__(self):
            return len(order)

        def write(self, atoms):
            order.append("trajectory")

    dyn = langevin(water(), trajectory=Memory())
    UncertaintyMonitor(dyn, [Criterion(FORCE, 1e9)], callback=lambda record: order.append(record.step))
    dyn.run(2)
    assert order == [0, "trajectory", 1, "trajectory", 2, "trajectory"]


def test_a_halted_run_goes_on_with_its_counts_and_its_file(tmp_path):
    atoms = water()
    log = tmp_path / "m.jsonl"
    dyn = langevin(atoms)
    monitor = UncertaintyMonitor(dyn, [Criterion(FORCE, 0.0, "halt", consecutive=3)], logfile=log, flagged=None, quiet=1)
    atoms.positions += 0.01
    dyn.run(50)
    assert dyn.nsteps == 2 and monitor.state.in_a_row == (3,)
    dyn.run(50)  # still violated: the state went on, so it stops after one more step
    assert dyn.nsteps == 3 and monitor.halt_reason.in_a_row == 4
    monitor.criteria = (Criterion(FORCE, 1e9, "halt", consecutive=3),)
    dyn.run(50)
    assert dyn.nsteps == 53 and monitor.halt_reason is None
    assert [line["step"] for line in lines(log) if line["event"] == "step"] == list(range(54))
    assert [(line["step"], line["why"]) for line in lines(log) if line["event"] == "criteria"] == [(3, "set")]


def test_a_frame_at_step_0_is_judged_once(tmp_path):
    atoms = water()
    atoms.positions[0] += 0.1
    log = tmp_path / "m.jsonl"
    dyn = langevin(atoms)
    monitor = UncertaintyMonitor(dyn, [Criterion(FORCE, 1e-6)], logfile=log, flagged=None)
    dyn.run(10)
    assert dyn.nsteps == 0 and monitor.halt_reason.step == 0
    dyn.run(10)
    assert dyn.nsteps == 1 and monitor.state.in_a_row == (2,)
    assert [line["step"] for line in lines(log)[1:]] == [0, 1]


def test_a_second_run_appends_even_after_a_killed_one(tmp_path):
    log = tmp_path / "m.jsonl"
    for _ in range(2):
        dyn = langevin(water())
        UncertaintyMonitor(dyn, [Criterion(FORCE, 1e9)], logfile=log, quiet=1)
        dyn.run(2)
    assert [line["event"] for line in lines(log)] == ["start", "step", "step", "step"] * 2
    log.write_text(log.read_text() + '{"event": "st')
    dyn = langevin(water())
    UncertaintyMonitor(dyn, [Criterion(FORCE, 1e9)], logfile=log, quiet=1)
    dyn.run(1)
    text = log.read_text().splitlines()
    assert text[8] == '{"event": "st'
    assert [json.loads(line)["event"] for line in text[9:]] == ["start", "step", "step"]


def test_not_finite_halts_and_stays_strict_json(tmp_path):
    atoms = water(broken_after=4)
    log, flagged = tmp_path / "m.jsonl", tmp_path / "flagged.xyz"
    dyn = langevin(atoms)
    monitor = UncertaintyMonitor(dyn, [Criterion("forces_uncertainty_max", 1e9)], logfile=log, flagged=flagged)
    dyn.run(20)
    assert dyn.nsteps == 4 and np.isnan(monitor.halt_reason.value)
    assert (monitor.halt_reason.atom_index, monitor.halt_reason.element) == (2, "H")
    assert lines(log)[-1]["scores"]["forces_uncertainty_max"] == "nan"
    assert "force of atom 2 (H) is not finite" in str(monitor.halt_reason)
    assert not flagged.exists()  # nothing to learn from


def test_log_and_flag_do_not_stop_the_run(tmp_path):
    flagged = tmp_path / "flagged.xyz"
    records = []
    dyn = langevin(water())
    criteria = [Criterion("forces_uncertainty_max", 0.0, "log"), Criterion("bald_energy", 1e-4, "flag")]
    UncertaintyMonitor(dyn, criteria, flagged=flagged, callback=records.append, spacing=Spacing(0, 0))
    dyn.run(30)
    assert dyn.nsteps == 30 and len(records) == 31
    acting = [r.step for r in records if r.decision.action == "flag"]
    assert 0 < len(acting) < 31 and {r.decision.action for r in records} == {"log", "flag"}
    assert [frame.info["step"] for frame in read(flagged, ":")] == acting


def test_defaults_take_the_thresholds_of_the_model():
    thresholds = {"forces_uncertainty_rms_epistemic": 0.3, "forces_uncertainty_max_epistemic": 0.2, "forces_uncertainty_max": 0.1}
    ensemble = UncertaintyMonitor(langevin(water(thresholds=thresholds)))
    assert ensemble.criteria == (
        Criterion("forces_uncertainty_rms_epistemic", 0.3, "flag"),
        Criterion("forces_uncertainty_max_epistemic", 0.2, "flag"),
        Criterion("forces_uncertainty_rms_epistemic", 0.3, "halt", 200),
        Criterion("forces_uncertainty_max_epistemic", 0.2, "halt", 200),
        Criterion("forces_uncertainty_rms_epistemic", 0.6, "halt"),
        Criterion("forces_uncertainty_max_epistemic", 2.0, "halt"),
    )
    single = UncertaintyMonitor(langevin(water(springs=(1.0,), thresholds=thresholds)))
    assert single.criteria == tuple(Criterion("forces_uncertainty_max", *how) for how in ((0.1, "flag"), (0.1, "halt", 200), (1.0, "halt")))


def test_bad_input_is_refused_on_attaching():
    with pytest.raises(
        ValueError, match='no threshold "auto" for .forces_uncertainty_rms_epistemic.*race-calc calibrate.*or give a number'
    ):
        UncertaintyMonitor(langevin(water()))
    with pytest.raises(ValueError, match="cannot give the criterion 'bald_energy'"):
        UncertaintyMonitor(langevin(water(aleatoric=False)), [Criterion("bald_energy", 1.0)])
    with pytest.raises(ValueError, match="no uncertainty to monitor"):
        UncertaintyMonitor(langevin(water(springs=(1.0,), aleatoric=False)))
    with pytest.raises(ValueError, match="interval"):
        UncertaintyMonitor(langevin(water()), [Criterion(FORCE, 1.0)], interval=0)
    with pytest.raises(TypeError, match="not to Atoms"):
        UncertaintyMonitor(water(), [Criterion(FORCE, 1.0)])
    atoms = water()
    atoms.calc = EMT()
    with pytest.raises(TypeError, match="RACECalculator.*EMT"):
        UncertaintyMonitor(langevin(atoms), [Criterion(FORCE, 1.0)])
    atoms.calc = None
    with pytest.raises(TypeError, match="RACECalculator.*NoneType"):
        UncertaintyMonitor(langevin(atoms), [Criterion(FORCE, 1.0)])
