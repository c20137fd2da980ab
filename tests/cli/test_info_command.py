"""race-calc info: what it shows, and that an incomplete record or folder is no traceback."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from race_calc.cli import app
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.manifest import hash_weights, write_manifest


def run(model):
    return CliRunner().invoke(app, ["info", str(model)])


@pytest.fixture
def model(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


def change(model, **values):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | values))
    write_manifest(model)


def test_shows_the_whole_model(tiny_model):
    result = run(tiny_model)
    assert result.exit_code == 0, result.output
    checkpoint = load_checkpoint(tiny_model)
    weights = sum(value[0].numel() for value in checkpoint.parameters.values())
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    for line in (
        "species (E0 in eV) H (-13.600), C (-1029.500), O (-2042.000)",
        "shift -0.1000 eV/atom",
        "hidden irreps 4x0e+4x1o+4x2e",
        "cutoff 4.0 Å, 6.0 neighbours on average",
        "head joint, force covariance matrix-log",
        "posterior deep-ensemble, members: 2",
        f"weights per member {weights:,}",
        f"bald_energy {checkpoint.thresholds['bald_energy']:.4g} nat",
        "recipe detached",
        "seeds of the members 11, 12",
        "best epochs 4, 5",
        "validation RMSE 35.0 meV, 75.0 meV/Å (mean of the members)",
        "energy, members 40.0, 50.0 meV",
        "split 4 train, 2 validation, seed 11",
        "SHA-256 " + "0123456789abcdef" * 4,
    ):
        assert line in lines, f"{line!r} not in\n{result.output}"


def test_every_threshold_has_a_line(tiny_model):
    output = run(tiny_model).output
    assert all(name in output for name in load_checkpoint(tiny_model).thresholds)


def test_a_model_without_records(model):
    change(model, training={}, data={}, thresholds={})
    result = run(model)
    assert result.exit_code == 0, result.output
    assert "no record" in result.output and "or give thresholds by hand" in result.output


def test_bad_folders_end_with_one_line(model, tmp_path):
    change(model, version=99)
    for folder, message in ((tmp_path / "absent", "no model folder"), (model, "upgrade race_calc")):
        result = run(folder)
        assert result.exit_code == 1
        assert message in result.output and "race-calc info: " in result.output and "Traceback" not in result.output


@pytest.mark.parametrize("values", [{"training": {"config": 5}}, {"training": {"best_epochs": 5}}, {"data": {"split": [[1]]}}])
def test_a_damaged_record_is_told(model, values):
    change(model, **values)
    result = run(model)
    assert result.exit_code == 0 and "damaged, it cannot be shown" in result.output


def test_for_machines(tiny_model):
    found = json.loads(CliRunner().invoke(app, ["info", str(tiny_model), "--json"]).stdout)
    checkpoint = load_checkpoint(tiny_model)
    assert found["elements"] == ["H", "C", "O"] and found["members"] == checkpoint.members and found["cutoff_A"] == 4.0
    assert found["weights_sha256"] == hash_weights(tiny_model) and found["calibration_structures"] is None
    assert json.loads(CliRunner().invoke(app, ["info", "silicon", "--json"]).stdout)["thresholds"]
