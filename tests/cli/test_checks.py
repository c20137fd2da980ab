"""What md and relax tell of the monitor: a score once, the halt at the end."""

import io

import pytest
from ase.build import bulk
from ase.io import write
from rich.console import Console
from typer.testing import CliRunner

from race_calc.cli import app
from race_calc.cli.checks import Checks
from race_calc.md.record import MonitorRecord
from race_calc.uncertainty.decisions import Decision, Violation


def record(step, *violations):
    return MonitorRecord(step=step, time=None, temperature=None, energy=0.0, scores={}, decision=Decision(violations))


def violation(step, name, action):
    return Violation(step, name, 2.0, 1.0, action=action)


def test_each_score_is_told_once_and_every_flagged_check_is_counted(tmp_path):
    told = io.StringIO()
    checks = Checks(Console(file=told, width=40))
    for step in range(5):
        rms = violation(step, "forces_uncertainty_rms", "flag")
        checks.tell(record(step, rms, violation(step, "forces_uncertainty_max", "flag" if step == 3 else None)))
    checks.tell(record(5, violation(5, "forces_uncertainty_rms", "halt")))
    assert told.getvalue().splitlines() == [
        "first flag at step 0: forces_uncertainty_rms = 2, above the threshold 1",
        "first flag at step 3: forces_uncertainty_max = 2, above the threshold 1",
    ]
    flagged = tmp_path / "flagged.xyz"
    assert checks.lines(flagged, "halt at step 5.") == ["5 checks were flagged.", "The monitor ended the run: halt at step 5."]
    flagged.touch()
    assert checks.lines(flagged, "") == [f"5 checks were flagged: {flagged} has frames of them."]
    assert Checks(Console(file=told)).lines(flagged, "") == []


@pytest.mark.parametrize("name", ["md", "relax"])
def test_a_halt_is_explained_once(tmp_path, name):
    """Of relax, which goes on through the unknown, that of atoms which are too close."""
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.4, seed=0)
    if name == "relax":
        atoms.positions[1] = atoms.positions[0] + [0.5, 0.0, 0.0]
    write(tmp_path / "start.xyz", atoms)
    command = [name, "silicon", str(tmp_path / "start.xyz"), "--out", str(tmp_path / "run"), "--steps", "50"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 3, done.output
    assert done.output.count("halt at step") == 1 and "\nLeast known are the forces on" in done.stdout
