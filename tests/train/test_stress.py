"""A training on stresses: their covariance is learned, stored, predicted, and told."""

import json
import shutil

import numpy as np
import pytest
import torch
from ase.io import write
from small_run import frame, write_run
from typer.testing import CliRunner

from race_calc import RACECalculator
from race_calc.cli.app import app
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.report.model_folder import calibration_lines, training_lines
from race_calc.train.config import ConfigError, load_config
from race_calc.train.finish import finish
from race_calc.train.loop import train
from race_calc.train.prepare import prepare

CPU = torch.device("cpu")
STRESS = {"model__head": "joint-stress", "training__stress_weight": 1.0, "training__energy_weight": 1.0, "training__force_weight": 1.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stress")
    config = load_config(write_run(folder, n=34, periodic=True, data__validation=14, training__epochs=12, **STRESS))
    prepared = prepare(config, folder)
    finish(config, prepared, train(config, prepared, folder / "model", CPU, False), folder / "model", CPU)
    return folder / "model"


def test_the_calculator_gives_both_parts_and_their_sum(model):
    atoms = frame(60, periodic=True)
    atoms.calc = RACECalculator(model, "cpu", calibrated=False)
    atoms.get_stress()
    found = atoms.calc.results
    parts = [found[f"stress_covariance_{part}"] for part in ("epistemic", "aleatoric")]
    np.testing.assert_allclose(found["stress_covariance"], sum(parts), rtol=1e-12)
    assert all(np.linalg.eigvalsh(part)[0] > -1e-12 for part in parts) and np.linalg.eigvalsh(parts[1])[0] > 0
    np.testing.assert_allclose(found["stress_uncertainty"] ** 2, np.diagonal(found["stress_covariance"]), rtol=1e-12)
    assert not {"stress_covariance", "stress_covariance_aleatoric"} & set(RACECalculator(model, "cpu").get_default_parameters())


def test_a_molecule_has_no_stress_and_no_covariance_of_it(model):
    atoms = frame(60)
    atoms.calc = RACECalculator(model, "cpu")
    atoms.get_forces()
    assert not [name for name in atoms.calc.results if name.startswith("stress")]


def test_its_size_is_refitted_to_the_validation_structures(model):
    """The mean of dᵀΣ⁻¹d/6 over them is one for each member: what `race_calc.train.spreads` does for every spread."""
    factors = load_checkpoint(model).training["spread_factors"]
    assert set(factors) == {"energy_var", "force_cov", "stress_cov"} and all(factor > 0 for factor in factors["stress_cov"])


def test_errors_of_the_stress_are_in_log_card_and_info(model):
    last = json.loads((model / "training_log.jsonl").read_text().splitlines()[-1])
    assert len(last["stress_rmse_eV_per_A3"]) == 2 and 0 < last["mean_stress_rmse_eV_per_A3"] < 1
    first = json.loads((model / "training_log.jsonl").read_text().splitlines()[0])
    assert last["mean_stress_rmse_eV_per_A3"] < first["mean_stress_rmse_eV_per_A3"]
    assert "meV/Å³" in (model / "card.md").read_text() and "meV/Å³" in training_lines(load_checkpoint(model))["validation RMSE"]


def test_it_is_calibrated_with_the_rest(model, tmp_path):
    """The command fits it, and `evaluate` tells coverage and likelihood of stresses after it."""
    folder = shutil.copytree(model, tmp_path / "model")
    write(tmp_path / "held.xyz", [frame(seed, periodic=True) for seed in range(100, 130)])
    write(tmp_path / "new.xyz", [frame(seed, periodic=True) for seed in range(200, 215)])
    done = CliRunner().invoke(app, ["calibrate", str(folder), str(tmp_path / "held.xyz")])
    assert done.exit_code == 0 and "Stresses: " in done.output, done.output
    calibration = load_checkpoint(folder).calibration
    raw, calibrated = RACECalculator(folder, "cpu", calibrated=False), RACECalculator(folder, "cpu")
    before, after = (one.get_property("stress_covariance", frame(60, periodic=True)) for one in (raw, calibrated))
    if calibration.stress.form is None:
        np.testing.assert_allclose(after, calibration.stress.scale * before, rtol=1e-9)
    assert np.linalg.eigvalsh(after)[0] > 0 and not np.allclose(after, before)
    done = CliRunner().invoke(app, ["evaluate", str(folder), str(tmp_path / "new.xyz"), "--json", str(tmp_path / "found.json")])
    assert done.exit_code == 0 and "Calibration of stress components" in done.output, done.output
    assert '"stress_coverage_90_fraction"' in (tmp_path / "found.json").read_text()
    assert "stress" in calibration_lines(load_checkpoint(folder))


def test_without_a_weight_or_without_labels_there_is_nothing_to_learn(tmp_path):
    with pytest.raises(ConfigError, match="stress_weight a value > 0"):
        load_config(write_run(tmp_path, **STRESS | {"training__stress_weight": 0.0}))
    with pytest.raises(ValueError, match="no structure of the training has one"):
        prepare(load_config(write_run(tmp_path, **STRESS)), tmp_path)
