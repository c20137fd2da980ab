"""race-calc train --from MODEL --add FILE: more labels for a finished model."""

import json

import numpy as np
import pytest
from ase.io import read, write
from small_run import frame, write_run
from typer.testing import CliRunner

from race_calc.cli import app
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.train.config import ConfigError, load_config


def run(*arguments):
    done = CliRunner().invoke(app, ["train", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A folder with data, a model, and 24 new frames of which two are known and one comes twice."""
    folder = tmp_path_factory.mktemp("before")
    path = write_run(folder, training__epochs=8, data__validation_from="random")
    code, output = run(path, "--out", folder / "model")
    assert code == 0, output
    new = [frame(seed) for seed in range(100, 124)]
    write(folder / "new.xyz", [*new, new[3], frame(0), frame(5)])
    return folder


@pytest.fixture(scope="module")
def after(before):
    code, output = run("--from", before / "model", "--add", before / "new.xyz", "--data", before, "--out", before / "more")
    assert code == 0 and "3 known already" in output and "Not calibrated: 2 structures" in output, output
    return before / "more"


def hashes(model):
    return {part: set(value.split()) for part, value in load_checkpoint(model).data["structures"].items()}


def test_old_frames_stay_in_their_part_and_new_ones_are_shared_out(before, after):
    old, new = hashes(before / "model"), hashes(after)
    assert old["train"] < new["train"] and old["validation"] < new["validation"]
    assert {part: len(read(after / "data" / f"{part}.xyz", ":")) for part in ("train", "validation", "calibration")} == {
        "train": 8 + 20, "validation": 4 + 2, "calibration": 2,
    }  # fmt: skip
    everything = read(after / "data" / "train.xyz", ":")
    for atoms in everything[:8]:
        original = min((frame(seed) for seed in range(12)), key=lambda one: np.abs(one.positions - atoms.positions).max())
        assert atoms.get_potential_energy() == pytest.approx(original.get_potential_energy())
        np.testing.assert_allclose(atoms.get_forces(), original.get_forces(), atol=1e-7)


def test_it_starts_where_the_model_was(before, after):
    one, other = load_checkpoint(before / "model"), load_checkpoint(after)
    assert other.references == one.references and other.model.scale == one.model.scale
    config = other.training["config"]["training"]
    assert (config["epochs"], config["keep_references"]) == (2, True)
    first = json.loads((after / "training_log.jsonl").read_text().splitlines()[0])
    errors = [json.loads(line)["mean_force_rmse_eV_per_A"] for line in (before / "model" / "training_log.jsonl").read_text().splitlines()]
    assert first["mean_force_rmse_eV_per_A"] < 0.6 * errors[0]  # nearly as good as it was after eight epochs


def test_again_from_what_was_continued(before, after, tmp_path):
    """It has its data beside it, and what was held back for calibration stays so."""
    write(tmp_path / "newer.xyz", [frame(seed) for seed in range(200, 240)])
    write(tmp_path / "newest.xyz", [frame(seed) for seed in range(300, 340)])
    command = ["--from", after, "--add", tmp_path / "newer.xyz", "--add", tmp_path / "newest.xyz", "--out", tmp_path / "out", "--epochs", 1]
    code, output = run(*command)
    assert code == 0 and "The calibration is in" in output, output
    assert load_checkpoint(tmp_path / "out").calibration.frames == 2 + 8
    held = {tuple(atoms.positions.ravel().round(4)) for atoms in read(after / "data" / "calibration.xyz", ":")}
    assert held < {tuple(atoms.positions.ravel().round(4)) for atoms in read(tmp_path / "out" / "data" / "calibration.xyz", ":")}
    code, output = run(*command)
    assert code == 1 and "holds a run: add --resume" in output
    assert run(*command, "--resume")[0] == 0  # nothing is left to do


def test_a_posterior_is_fitted_to_it(before, after, tmp_path):
    options = ["--method", "llpr", "--data", after, "--members", "4", "--out", tmp_path / "llpr"]
    done = CliRunner().invoke(app, ["posterior", "fit", str(after), *map(str, options)])
    assert done.exit_code == 0, done.output
    assert load_checkpoint(tmp_path / "llpr").references == load_checkpoint(before / "model").references


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "give either CONFIG or --from MODEL"),
        (["train.yaml", "--from", "model"], "give either CONFIG or --from MODEL"),
        (["train.yaml", "--add", "new.xyz"], "--add go with --from"),
        (["--from", "model", "--data", "."], "give --add FILE"),
        (["--from", "model", "--add", "new.xyz"], "give --data FOLDER"),
        (["--from", "model", "--add", "data.xyz", "--data", "."], "all 12 structures of data.xyz are known already"),
        (["--from", "model", "--add", "absent.xyz", "--data", "."], "absent.xyz does not exist"),
        (["--from", "model", "--add", "new.xyz", "--data", "other"], "their SHA-256 differs"),
    ],
)
def test_what_cannot_be(before, monkeypatch, tmp_path, arguments, said):
    monkeypatch.chdir(before)
    (before / "other").mkdir(exist_ok=True)
    write(before / "other" / "data.xyz", [frame(seed) for seed in range(50, 62)])
    code, output = run(*arguments, "--out", tmp_path / "out")
    assert code == 1 and said in output, output
    assert not (tmp_path / "out" / "train.yaml").exists()


def test_references_are_kept_of_a_model_only(tmp_path):
    with pytest.raises(ConfigError, match="kept of a model: give training.start_from"):
        load_config(write_run(tmp_path, training__keep_references=True))
