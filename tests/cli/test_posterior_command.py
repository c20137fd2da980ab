"""race-calc posterior fit: a new model folder, and one line for what cannot be done."""

import pytest
from small_run import write_run
from typer.testing import CliRunner

from race_calc.cli import app
from race_calc.posterior.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    write_run(folder, training__epochs=2)
    done = CliRunner().invoke(app, ["train", str(folder / "train.yaml"), "--out", str(folder / "model")])
    assert done.exit_code == 0, done.output
    return folder


def fit(*arguments) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["posterior", "fit", *map(str, arguments)])
    return done.exit_code, done.output + done.stderr


def test_fits_a_member_and_leaves_the_model_alone(trained, tmp_path):
    before = (trained / "model" / "weights.safetensors").read_bytes()
    options = ["--method", "llpr", "--data", trained, "--member", 1, "--members", 4]
    status, text = fit(trained / "model", *options, "--out", tmp_path / "new")
    assert status == 0 and "calibration" in text and "validation RMSE" in text
    made = load_checkpoint(tmp_path / "new")
    assert (made.posterior, made.members, made.training["posterior"]["member"]) == ("llpr", 4, 1)
    assert (trained / "model" / "weights.safetensors").read_bytes() == before
    status, text = fit(trained / "model", *options, "--out", tmp_path / "new")
    assert status == 1 and "give another --out" in text


@pytest.mark.parametrize("mean, told, shown", [("map", "the model itself, with", True), ("draws", "the mean of the draws, with", False)])
def test_laplace_with_a_choice_of_the_mean(tmp_path, mean, told, shown):
    write_run(tmp_path, training__epochs=2, posterior="mve", members=1, model__head="mse")
    done = CliRunner().invoke(app, ["train", str(tmp_path / "train.yaml"), "--out", str(tmp_path / "model")])
    assert done.exit_code == 0, done.output
    options = ["--method", "laplace", "--data", tmp_path, "--members", 3, "--mean", mean, "--out", tmp_path / "new"]
    status, text = fit(tmp_path / "model", *options)
    assert status == 0 and f"It predicts {told}" in text and "mean of the draws" in text
    made = load_checkpoint(tmp_path / "new")
    assert (made.center is not None) == shown
    info = " ".join(CliRunner().invoke(app, ["info", str(tmp_path / "new")]).output.split())
    model, draws = made.training["posterior"]["validation_of_the_model"], made.training["validation"]
    assert ("the means are those of the MAP" in info) == shown
    for measured in (model, draws):
        assert f"{1e3 * measured['mean_force_rmse_eV_per_A']:.1f} meV/Å" in info


@pytest.mark.parametrize(
    "change, message",
    [
        (["--method", "laplace"], "write model.head: mse, not joint"),
        (["--method", "lapalce"], "posterior lapalce is not fitted to a trained model: take laplace or llpr"),
        (["--method", "swag"], "take laplace or llpr"),
        (["--member", 2], "there is no member 2"),
        (["--members", 5], "even number"),
        (["--mean", "map"], "llpr has no choice of a mean"),
        (["--data", "nowhere"], "nowhere"),
        (["--device", "tpu"], 'use "cpu", "cuda"'),
    ],
)
def test_errors_are_one_line(trained, tmp_path, change, message):
    options = {"--method": "llpr", "--data": trained, "--members": 4, "--out": tmp_path / "new"} | dict([change])
    status, text = fit(trained / "model", *[word for pair in options.items() for word in pair])
    assert status == 1 and message in text and "Traceback" not in text
    assert not (tmp_path / "new").exists()


def test_a_folder_without_a_model(tmp_path):
    status, text = fit(tmp_path, "--method", "llpr", "--data", tmp_path, "--out", tmp_path / "new")
    assert status == 1 and "config.json" in text
