"""race-calc calibrate: what it stores is what the calculator applies; training data are refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from small_run import frame as small_frame
from small_run import write_run
from typer.testing import CliRunner

from race_calc.cli import app
from race_calc.interfaces.calculator import RACECalculator
from race_calc.md.attach import UncertaintyMonitor
from race_calc.posterior.checkpoint import CheckpointError, load_checkpoint
from race_calc.posterior.manifest import CALIBRATION, write_manifest
from race_calc.uncertainty.storage import VERSION


def command(*arguments) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    return done.exit_code, " ".join((done.output + done.stderr).split())


@pytest.fixture
def model(tiny_model, tmp_path):
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.fixture(scope="module")
def data(tiny_model, tmp_path_factory):
    """24 structures whose labels differ from the predictions by Gaussians of a known size."""
    path = tmp_path_factory.mktemp("data") / "held_back.xyz"
    calculator = RACECalculator(tiny_model)
    frames = []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        atoms = molecule("CH3CH2OH")
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        p = calculator.prediction(atoms)
        drawn = np.einsum("nij,nj->ni", np.linalg.cholesky(p.forces_covariance), rng.normal(size=(len(atoms), 3)))
        energy = p.energy[0] + 3.0 * np.sqrt(p.energy_variance[0]) * rng.normal()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=p.forces + 0.5 * drawn)
        frames.append(atoms)
    write(path, frames)
    return path


def test_calibrates_and_the_calculator_applies_it(model, data):
    raw = RACECalculator(model)
    assert raw.calibration is None and raw.prediction(read(data, 0)).calibrated is False
    status, text = command("calibrate", model, data)
    assert status == 0, text
    for words in (
        "does not tell which structures",
        "24 structures are few",
        " energy ",
        " ellipsoids ",
        "flags 0.01 of independent structures",
        "of 0.0069 before",
    ):
        assert words in text
    found = RACECalculator(model)
    atoms = read(data, 0)
    atoms.calc = found
    atoms.get_potential_energy()
    assert found.results["calibrated"] is True and found.get_property("calibrated", atoms) is True
    scale = found.calibration.forces.scale
    assert scale == pytest.approx(0.25, rel=0.2)
    before = RACECalculator(model, calibrated=False)
    assert before.get_property("calibrated", atoms) is False
    np.testing.assert_allclose(found.results["forces_covariance"], scale * before.get_property("forces_covariance", atoms))
    np.testing.assert_array_equal(found.results["forces"], before.results["forces"])
    assert found.results["energy"] == before.results["energy"]
    assert found.results["energy_uncertainty"] > 1.5 * before.results["energy_uncertainty"]
    assert found.thresholds == found.calibration.thresholds != before.thresholds == load_checkpoint(model).thresholds
    assert "calibrated" not in found.export_properties()
    status, text = command("info", model)
    assert status == 0 and "made with 24 structures" in text and found.calibration.data_hash in text
    assert f"{found.thresholds['forces_uncertainty_rms']:.4g} eV/Å" in text


def test_again_gives_the_same_whatever_is_there(model, data):
    assert command("calibrate", model, data)[0] == 0
    first = (model / CALIBRATION).read_bytes()
    (model / CALIBRATION).write_text("{")
    assert command("calibrate", model, data)[0] == 0
    assert (model / CALIBRATION).read_bytes() == first
    assert command("calibrate", model, data, "--frames", "::2")[0] == 0
    assert load_checkpoint(model).calibration.frames == 12


def test_the_monitor_takes_the_calibrated_thresholds(model, data):
    from ase.optimize import BFGS

    command("calibrate", model, data)
    atoms = read(data, 0)
    atoms.calc = RACECalculator(model)
    monitor = UncertaintyMonitor(BFGS(atoms, logfile=None), flagged=None)
    thresholds = atoms.calc.calibration.thresholds
    auto, severe = monitor.criteria[:5], monitor.criteria[5:]
    assert [c.threshold for c in auto] == [thresholds[c.name] for c in auto]
    assert [c.threshold / thresholds[c.name] for c in severe] == [2.0, 10.0, 10.0]


def test_calibrated_can_be_demanded(model, data):
    with pytest.raises(ValueError, match="has no calibration: run `race-calc calibrate`"):
        RACECalculator(model, calibrated=True)
    command("calibrate", model, data)
    assert RACECalculator(model, calibrated=True).calibration.frames == 24


def test_training_structures_are_refused_and_validation_ones_named(tmp_path):
    write_run(tmp_path, training__epochs=2)
    assert command("train", tmp_path / "train.yaml", "--out", tmp_path / "model")[0] == 0
    model, file = tmp_path / "model", tmp_path / "data.xyz"
    split = load_checkpoint(model).data["split"]
    frames = read(file, ":")
    status, text = command("calibrate", model, file)
    assert status == 1 and f"{len(split['train'])} of {len(frames)} structures were trained on" in text
    assert not (model / CALIBRATION).exists()
    write(tmp_path / "validation.xyz", [frames[i] for i in split["validation"]] + [small_frame(seed) for seed in range(100, 106)])
    status, text = command("calibrate", model, tmp_path / "validation.xyz")
    assert status == 0 and f"{len(split['validation'])} of 10 structures are validation structures of the training" in text
    assert load_checkpoint(model).calibration.frames == 10


def test_a_calibration_goes_with_its_weights(model, data, tiny_model):
    command("calibrate", model, data)
    weights = model / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="weights.safetensors is not the file that manifest.json names"):
        load_checkpoint(model)
    assert command("manifest", model)[0] == 1  # it looks at the whole folder
    with pytest.raises(CheckpointError, match="belongs to other weights"):
        load_checkpoint(model)
    assert load_checkpoint(model, calibration=False).calibration is None


@pytest.mark.parametrize(
    "change, message",
    [
        ({"version": VERSION + 1}, f"format version {VERSION + 1}.*upgrade"),
        ({"format": "other"}, "is not a race_calc calibration"),
        ({"energy": {}}, "incomplete"),
        ({"frames": -1}, "empty"),
    ],
)
def test_a_damaged_calibration_is_named(model, data, change, message):
    command("calibrate", model, data)
    path = model / CALIBRATION
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    write_manifest(model)
    with pytest.raises(CheckpointError, match=message):
        RACECalculator(model)


def test_copies_within_the_data(model, data, tmp_path):
    write(tmp_path / "twice.xyz", read(data, ":11") + read(data, ":1"))
    status, text = command("calibrate", model, tmp_path / "twice.xyz")
    assert status == 1 and "1 of 12 structures occur more than once" in text and not (model / CALIBRATION).exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere.xyz"], "does not exist"),
        (["DATA", "--frames", "100:"], "no structures"),
        (["DATA", "--device", "tpu"], 'use "cpu", "cuda"'),
    ],
)
def test_errors_are_one_line(model, data, arguments, message):
    status, text = command("calibrate", model, *[data if word == "DATA" else word for word in arguments])
    assert status == 1 and message in text and "Traceback" not in text


def test_few_structures(model, data):
    status, text = command("calibrate", model, data, "--frames", ":9")
    assert status == 1 and "give at least 10" in text and not (model / CALIBRATION).exists()
    status, text = command("calibrate", model, data, "--frames", ":10")
    assert (
        status == 0
        and "10 structures give no conformal interval of 95 % (needs 19)" in text
        and "10 structures give no thresholds for the monitor: 20 are the fewest" in text
    )


def test_the_raw_model_does_not_need_its_calibration(model, data):
    command("calibrate", model, data)
    (model / CALIBRATION).write_text("{")
    assert RACECalculator(model, calibrated=False).calibration is None
    with pytest.raises(CheckpointError, match="damaged"):
        RACECalculator(model)


def test_frames_of_a_run_say_whether_they_are_calibrated(model, data):
    from race_calc.md.record import annotate

    command("calibrate", model, data)
    atoms = read(data, 0)
    for calculator in (RACECalculator(model), RACECalculator(model, calibrated=False)):
        assert annotate(atoms, calculator.prediction(atoms)).info["calibrated"] is (calculator.calibration is not None)


def test_a_new_training_in_the_folder_removes_the_calibration(model, data):
    from race_calc.posterior.checkpoint import save_checkpoint

    command("calibrate", model, data)
    made = load_checkpoint(model)
    save_checkpoint(model, made, "card")  # a finished training that was resumed
    assert load_checkpoint(model).calibration is not None
    other = {name: 1.1 * value for name, value in made.parameters.items()}
    save_checkpoint(model, dataclasses.replace(made, parameters=other), "card")
    assert not (model / CALIBRATION).exists() and load_checkpoint(model).calibration is None
