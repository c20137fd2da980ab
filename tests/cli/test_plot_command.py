"""Figures of finished and running trainings."""

import json

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from small_run import write_run
from typer.testing import CliRunner

from race_calc import RACECalculator
from race_calc.cli import app
from race_calc.data.dataset import dataset_from_atoms
from race_calc.evaluate.predict import predict_dataset, residuals_of
from race_calc.report.parity import parity_figure
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


def test_a_panel_of_stresses_where_they_are_learned():
    records = [{"epoch": k, **RECORD, "stress_rmse_eV_per_A3": [0.02, 0.01], "mean_stress_rmse_eV_per_A3": 0.01} for k in (1, 2)]
    axes = learning_curves(records).axes
    assert len(axes) == 6 and axes[2].lines[-1].get_ydata() == pytest.approx([10.0, 10.0])


def test_predictions_against_references(tiny_model, tmp_path):
    calculator = RACECalculator(tiny_model, calibrated=False)
    frames = [molecule("CH3CH2OH"), molecule("CH3OH")]
    for atoms in frames:
        prediction = calculator.prediction(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=prediction.energy[0] + 0.1 * len(atoms), forces=prediction.forces + 0.2)
    data = dataset_from_atoms(frames)
    figure = parity_figure(residuals_of(predict_dataset(calculator, data), data), data, calculator.checkpoint.references)
    energies, forces, below, _ = figure.axes
    assert [text.get_text() for text in energies.texts + forces.texts] == ["RMSE 100", "RMSE 200"]
    x, y = forces.collections[0].get_offsets().T
    assert len(x) == 3 * (9 + 6)
    np.testing.assert_allclose(x - y, 200.0, rtol=1e-6)
    assert below.get_ylabel() == "|error| (meV)" and below.collections


def test_a_finished_training_and_its_data(tmp_path):
    config = write_run(tmp_path, n=12, data__validation=4)
    done = CliRunner().invoke(app, ["train", str(config), "--out", str(tmp_path / "run")])
    assert done.exit_code == 0 and (tmp_path / "run" / "validation.png").stat().st_size > 10_000, done.output
    (tmp_path / "run" / "validation.png").unlink()
    done = CliRunner().invoke(app, ["plot", str(tmp_path / "run"), "--data", str(tmp_path)])
    assert done.exit_code == 0 and (tmp_path / "run" / "validation.png").stat().st_size > 10_000, done.output
    done = CliRunner().invoke(app, ["plot", str(tmp_path / "run"), "--data", str(tmp_path / "none")])
    assert done.exit_code == 1 and "does not exist" in done.output
    write_run(tmp_path, n=11, data__validation=4)
    done = CliRunner().invoke(app, ["plot", str(tmp_path / "run"), "--data", str(tmp_path)])
    assert done.exit_code == 1 and "not those of the training" in done.output
