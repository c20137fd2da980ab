"""A training on stresses: their covariance is learned, stored, predicted, and told."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.io import write
from small_run import alloy, frame, write_run
from typer.testing import CliRunner

from race_calc import RACECalculator
from race_calc.cli.app import app
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.state import flatten, unflatten
from race_calc.report.model_folder import calibration_lines, training_lines
from race_calc.train.config import STRESS_WEIGHT, ConfigError, load_config
from race_calc.train.context import context_of
from race_calc.train.finish import finish
from race_calc.train.loop import train
from race_calc.train.prepare import prepare
from race_calc.train.spreads import FEWEST, refitted
from race_calc.train.validate import measure, validate

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


def test_a_molecule_has_no_stress_and_no_covariance_of_it(model):
    atoms = frame(60)
    atoms.calc = RACECalculator(model, "cpu")
    atoms.get_forces()
    assert not [name for name in atoms.calc.results if name.startswith("stress")]


def test_its_size_is_refitted_to_the_validation_structures(model):
    """The mean of dᵀΣ⁻¹d/6 over them is one for each member: what `race_calc.train.spreads` does for every spread."""
    checkpoint, config = load_checkpoint(model), load_config(model.parent / "train.yaml")
    context = context_of(config, prepare(config, model.parent), CPU)
    (found,) = measure(context, flatten(list(checkpoint.parameters.values())))
    assert set(checkpoint.training["spread_factors"]) == {"energy_var", "force_cov", "stress_cov"}
    np.testing.assert_allclose(2 * found.spreads["stress_cov"].quadratic / 6, 1.0, rtol=2e-3)


def mixed(folder, crystals, molecules, **changes):
    """A run whose last structures, all of them for validation, are crystals with a stress and molecules, in turn."""
    path = write_run(folder, periodic=True, **STRESS | {"data__validation": crystals + molecules} | changes)
    held = [frame(seed, periodic=True) for seed in range(300, 300 + crystals)] + [frame(seed) for seed in range(400, 400 + molecules)]
    write(folder / "data.xyz", [frame(seed, periodic=True) for seed in range(8)] + held)
    config = load_config(path)
    prepared = prepare(config, folder)
    return context_of(config, prepared, CPU), flatten(list(prepared.parameters.values()))


def test_the_score_does_not_know_the_size_of_a_spread_where_some_have_no_stress(tmp_path):
    """It is that after the best factor, also where whole batches lack the label, and larger errors of stresses are worse."""
    context, weights = mixed(tmp_path, crystals=12, molecules=28)
    parameters = unflatten(weights, context.shapes)
    scores = []
    for shift in (-2.0, 0.0, 3.0):
        changed = parameters | {"stress_cov_offset": parameters["stress_cov_offset"] + shift}
        scores.append(validate(context, flatten(list(changed.values())))[0])
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(scores[2], scores[1], rtol=1e-6, atol=1e-6)
    off = tuple(replace(e, virial=e.virial + 50.0 * np.eye(3)) for e in context.validation)
    assert (validate(replace(context, validation=off), weights)[0] > scores[1]).all()


def test_few_labels_tell_no_size(tmp_path):
    context, weights = mixed(tmp_path, crystals=FEWEST - 1, molecules=10)
    again, factors = refitted(context, weights)
    assert set(factors["stress_cov"]) == {1.0} and set(factors["force_cov"]) != {1.0}
    assert torch.equal(unflatten(again, context.shapes)["stress_cov_offset"], unflatten(weights, context.shapes)["stress_cov_offset"])


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
    assert calibration.stress.form is None
    np.testing.assert_allclose(after, calibration.stress.scale * before, rtol=1e-9)
    done = CliRunner().invoke(app, ["evaluate", str(folder), str(tmp_path / "new.xyz"), "--json", str(tmp_path / "found.json")])
    assert done.exit_code == 0 and "Calibration of stress components" in done.output, done.output
    assert '"stress_coverage_90_fraction"' in (tmp_path / "found.json").read_text()
    assert "stress" in calibration_lines(load_checkpoint(folder).calibration, "RACECalculator")


def test_crystals_against_molecules(model, tmp_path):
    """Scores that one of the sets does not have are left out; thresholds of the pressure need a cell everywhere, and that is told."""
    write(tmp_path / "crystals.xyz", [frame(seed, periodic=True) for seed in range(100, 112)])
    write(tmp_path / "molecules.xyz", [frame(seed) for seed in range(200, 212)])
    for pair in (("crystals", "molecules"), ("molecules", "crystals")):
        known, other = (str(tmp_path / f"{name}.xyz") for name in pair)
        done = CliRunner().invoke(app, ["evaluate", str(model), known, "--ood", other])
        assert done.exit_code == 0, done.output
    folder = shutil.copytree(model, tmp_path / "model")
    both = [frame(seed, periodic=seed % 2 == 0) for seed in range(300, 330)]
    write(tmp_path / "both.xyz", both)
    done = CliRunner().invoke(app, ["calibrate", str(folder), str(tmp_path / "both.xyz")])
    assert done.exit_code == 0 and "no thresholds for scores of the stress" in " ".join(done.output.split()), done.output


def test_without_a_weight_or_without_labels_there_is_nothing_to_learn(tmp_path):
    with pytest.raises(ConfigError, match="leave out stress_weight"):
        load_config(write_run(tmp_path, **STRESS | {"training__stress_weight": 0.0}))
    with pytest.raises(ValueError, match="no structure of the training has one"):
        prepare(load_config(write_run(tmp_path, **STRESS)), tmp_path)
    with pytest.warns(UserWarning, match="stresses stored under another name"):
        prepare(load_config(write_run(tmp_path, training__stress_weight=1.0)), tmp_path)


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"periodic": True, "model__head": "joint-stress"}, STRESS_WEIGHT),
        ({"periodic": True}, STRESS_WEIGHT),
        ({"periodic": True, "training__stress_weight": 7.0}, 7.0),
        ({}, 0.0),
        ({"periodic": True, "posterior": "ivon"}, 0.0),
    ],
)
def test_the_weight_has_a_default_where_there_are_stresses(tmp_path, changes, expected):
    """Of likelihoods, of squared errors, and none for molecules and posteriors that do not learn from stresses; a given one stays."""
    config = load_config(write_run(tmp_path, training__epochs=1, **changes))
    prepared = prepare(config, tmp_path)
    assert prepared.stress_weight == context_of(config, prepared, CPU).training.stress_weight == expected
    made = finish(config, prepared, train(config, prepared, tmp_path / "model", CPU, False), tmp_path / "model", CPU)
    assert made.training["config"]["training"]["stress_weight"] == expected


def test_labels_that_are_not_used_and_nothing_to_learn_from_are_told(tmp_path):
    with pytest.warns(UserWarning, match="leave it out for its default"):
        prepare(load_config(write_run(tmp_path, periodic=True, training__stress_weight=0.0)), tmp_path)
    with pytest.raises(ValueError, match="energy_weight and force_weight are 0"):
        prepare(load_config(write_run(tmp_path, training__energy_weight=0.0, training__force_weight=0.0)), tmp_path)


def test_stresses_of_the_wrong_sign_end_a_training(tmp_path):
    config = load_config(write_run(tmp_path))
    frames = [alloy(seed) for seed in range(14)]
    for atoms in frames:
        atoms.calc.results["stress"] = -atoms.calc.results["stress"]
    write(tmp_path / "data.xyz", frames)
    with pytest.raises(ValueError, match="the opposite sign.*write training.stress_weight: 10, and they are used as they are"):
        prepare(config, tmp_path)
    given = load_config(write_run(tmp_path, training__stress_weight=3.0))
    write(tmp_path / "data.xyz", frames)
    with pytest.warns(UserWarning, match="the opposite sign"):
        assert prepare(given, tmp_path).stress_weight == 3.0


def test_copies_are_told(tmp_path):
    changes = {"data__train": ["data.xyz@:8", "data.xyz@6:9"], "data__validation": "data.xyz@7:"}
    with pytest.warns(UserWarning) as told:
        prepare(load_config(write_run(tmp_path, **changes)), tmp_path)
    messages = " ".join(str(one.message) for one in told)
    assert "2 structures are in both" in messages and "2 structures of the training occur more than once" in messages
