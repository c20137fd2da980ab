"""race-calc demo: what it says and what it writes."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from race_calc.cli import app
from race_calc.md.run import OUTPUTS, DemoOutcome, DemoPlan
from race_calc.report.demo import closing_lines, file_lines
from race_calc.uncertainty.decisions import Violation

MODEL = Path(__file__).parents[2] / "models" / "3bpa-de"
needs_model = pytest.mark.skipif(not (MODEL / "weights.safetensors").is_file(), reason="models/3bpa-de holds no trained weights")


def violation(step, action, name="bald_forces_max", value=0.43, threshold=0.21):
    return Violation(step, name, value, threshold, atom_index=7, element="C", action=action)


def outcome(steps, halt=None, alarms=(), target=1500.0):
    return DemoOutcome(DemoPlan(), steps, halt, 790.0, target, tuple(alarms) + ((halt,) if halt else ()))


def test_words_for_a_halt_while_heating():
    flag = violation(780, "flag", "forces_uncertainty_max", 0.5, 0.3)
    text = "\n".join(closing_lines(outcome(812, violation(812, "halt"), [flag], target=550.0)))
    assert "At 300 K: 500 steps, no alarm." in text
    assert "1 frame flagged, first at step 780: largest force σ 0.5 eV/Å, above its threshold of 0.3 eV/Å." in text
    assert "halt at step 812, 406 fs, thermostat 550 K, atoms 790 K" in text
    assert "no longer knew the force on atom 7 (C): largest force BALD 0.43 nat, above its threshold of 0.21 nat" in text
    assert "The run was stopped." in text


def test_words_for_an_alarm_at_300_kelvin():
    halted = "\n".join(closing_lines(outcome(120, violation(120, "halt"), target=300.0)))
    assert "stopped the run before the heating began (step 120" in halted
    assert "false alarm" in halted
    assert "no alarm" not in halted
    flagged = "\n".join(closing_lines(outcome(2500, alarms=[violation(10, "flag"), violation(11, "flag")])))
    assert "At 300 K: 500 steps, and 2 frames flagged, where nothing should be; first at step 10" in flagged


def test_words_when_nothing_fired():
    text = "\n".join(closing_lines(outcome(2500)))
    assert "At 300 K: 500 steps, no alarm." in text
    assert "Heating: 2000 steps, no alarm" in text
    assert "The monitor did not stop this run" in text
    assert "The run was stopped" not in text


def test_flagged_frames_are_named_only_when_there_are_some():
    assert not any("flagged.xyz" in line for line in file_lines(outcome(2500), Path("out")))
    assert any("flagged.xyz" in line for line in file_lines(outcome(9, violation(9, "halt")), Path("out")))


@needs_model
def test_short_demo_writes_its_files_twice_into_one_folder(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    for steps in (5, 12):
        here = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--steps", str(steps)])
        assert here.exit_code == 0, here.output
    assert "step     0/12" in here.output and "At 300 K: 2 steps, no alarm." in here.output
    assert all((tmp_path / name).stat().st_size > 0 for name in set(OUTPUTS) - {"flagged.xyz"})
    assert (tmp_path / "mine.txt").exists()


def test_an_exploded_structure_is_told_as_one(tmp_path):
    broken = Violation(812, "structure", 0.3, 0.5, 7, "C", action="halt", message="atoms 7 (C) and 9 (H) are 0.30 Å apart")
    assert "The structure broke: atoms 7 (C) and 9 (H) are 0.30 Å apart." in "\n".join(closing_lines(outcome(812, broken, target=550.0)))
