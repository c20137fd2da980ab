"""Learning curves of finished and running trainings."""

import json

import pytest
from typer.testing import CliRunner

from race_calc.cli import app
from race_calc.report.training import learning_curves, read_records

RECORD = {"train_loss": [3.0, 2.0], "validation_score": [1.0, None], "energy_rmse_eV": [0.1, 0.2], "mean_energy_rmse_eV": 0.05,
          "force_rmse_eV_per_A": [0.3, 0.4], "mean_force_rmse_eV_per_A": 0.2, "learning_rate": 0.01, "skipped_steps": [0, 2]}  # fmt: skip


def test_curves_of_a_running_training(tmp_path):
    lines = [json.dumps({"epoch": k, **RECORD, "mean_force_rmse_eV_per_A": 0.2 / k}) for k in (1, 2, 3)]
    (tmp_path / "training_log.jsonl").write_text("\n".join([*lines, '{"epoch": 4, "tr']))
    records = read_records(tmp_path)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    forces = learning_curves(records).axes[0]
    mean = forces.lines[-1]
    assert len(forces.lines) == 3 and mean.get_ydata() == pytest.approx([200.0, 100.0, 200.0 / 3])
    done = CliRunner().invoke(app, ["plot", str(tmp_path)])
    assert done.exit_code == 0 and (tmp_path / "learning_curves.png").stat().st_size > 10_000, done.output


def test_folders_without_one(tmp_path):
    done = CliRunner().invoke(app, ["plot", str(tmp_path)])
    assert done.exit_code == 1 and "no training_log.jsonl" in done.output
    (tmp_path / "training_log.jsonl").write_text("")
    done = CliRunner().invoke(app, ["plot", str(tmp_path)])
    assert done.exit_code == 1 and "no epoch yet" in done.output
