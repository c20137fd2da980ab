"""The run of the demo with a fake ensemble: plan, files, halt, same seed."""

import pytest
from ase.build import molecule
from ase.io import read
from fake_calculator import HarmonicEnsemble

from race_calc.md.run import DemoPlan, demo_plan, run_demo, target_temperature

PLAN = DemoPlan(20, 60, 20)
NAMES = ("forces_uncertainty_rms_epistemic", "forces_uncertainty_max_epistemic")


def run(out, limit, seed=0, plan=PLAN):
    atoms = molecule("H2O")
    atoms.calc = HarmonicEnsemble(atoms, thresholds=dict.fromkeys(NAMES, limit))
    seen = []
    return run_demo(atoms, plan, out, seed, seen.append), seen


def test_plan_and_thermostat():
    plan = demo_plan(2500)
    assert plan == DemoPlan(500, 1500, 500)
    assert demo_plan(7).steps == 7
    assert [target_temperature(plan, step) for step in (0, 500, 1250, 2000, 2500)] == [300, 300, 900, 1500, 1500]
    with pytest.raises(ValueError, match="at least 5 steps"):
        demo_plan(4)


def test_without_a_halt_the_plan_is_run_to_its_end(tmp_path):
    outcome, seen = run(tmp_path, 1e6)
    assert (outcome.steps, outcome.halt, outcome.alarms) == (100, None, ())
    assert [record.step for record in seen] == list(range(101))
    assert outcome.target == 1500
    assert not (tmp_path / "flagged.xyz").exists()
    frames = read(tmp_path / "trajectory.xyz", ":")
    assert [frame.info["step"] for frame in frames] == list(range(0, 101, 5))


def test_the_halting_frame_ends_the_trajectory(tmp_path):
    _, seen = run(tmp_path / "free", 1e6)
    limit = 0.5 * max(record.scores[NAMES[0]] for record in seen[:60]) * 0.99  # passed twice at step 59 or earlier
    outcome, _ = run(tmp_path, limit)
    assert 0 < outcome.halt.step == outcome.steps < 60
    assert outcome.halt.criterion == NAMES[0] and outcome.halt.threshold == pytest.approx(2 * limit)
    assert {v.action for v in outcome.alarms} == {"flag", "halt"}
    last = read(tmp_path / "trajectory.xyz", -1)
    assert last.info["step"] == outcome.steps
    assert last.arrays["forces_uncertainty_max"].shape == (3,)


def test_same_seed_same_run_and_old_outputs_are_replaced(tmp_path):
    run(tmp_path, 0.0)  # leaves flagged frames
    assert (tmp_path / "flagged.xyz").exists()
    (tmp_path / "mine.txt").write_text("keep")
    run(tmp_path, 1e6)
    first = (tmp_path / "trajectory.xyz").read_text()
    run(tmp_path, 1e6)
    assert (tmp_path / "trajectory.xyz").read_text() == first
    assert not (tmp_path / "flagged.xyz").exists()
    assert (tmp_path / "mine.txt").read_text() == "keep"
    run(tmp_path, 1e6, seed=1)
    assert (tmp_path / "trajectory.xyz").read_text() != first
