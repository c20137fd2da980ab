"""Members trained in several runs and joined: the model of one run."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_run import frame, write_run
from typer.testing import CliRunner

from race_calc import RACECalculator
from race_calc.cli import app
from race_calc.train.config import load_config
from race_calc.train.shards import members_of


def run(*arguments, env=None):
    done = CliRunner().invoke(app, list(map(str, arguments)), env=env)
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The configuration; five members in one run, and in two of which one was stopped."""
    folder = tmp_path_factory.mktemp("shards")
    path = write_run(folder, members=5)
    assert run("train", path, "--out", folder / "whole")[0] == 0
    code, output = run("train", path, "--out", folder / "parts", "--members", "0:2")
    assert code == 0 and "Members 0:2 of 5 are trained" in output and "race-calc join" in output
    code, output = run("join", path, "--out", folder / "parts")
    assert code == 1 and "has the members 0:2: each of 0:5 is needed once" in output
    code, output = run("train", path, "--out", folder / "parts", "--members", "rank", env={"RANK": "1", "WORLD_SIZE": "2"})
    assert code == 0 and "Members 2:5 of 5" in output
    code, output = run("join", path, "--out", folder / "parts")
    assert code == 0 and "The model is in" in output, output
    return path, folder


def test_the_joined_model_is_that_of_one_run(runs):
    _, folder = runs
    whole, parts = (load_file(folder / name / "weights.safetensors") for name in ("whole", "parts"))
    for name, values in whole.items():
        if not name.startswith("feature_distance"):  # whitening matrices, which make rounding large
            largest = max(float(values.abs().max()), 1.0)
            np.testing.assert_allclose(parts[name], values, rtol=0, atol=2e-6 * largest, err_msg=name)
    one, other = (json.loads((folder / name / "config.json").read_text()) for name in ("whole", "parts"))
    assert one["training"]["member_seeds"] == other["training"]["member_seeds"]
    assert one["training"]["best_epochs"] == other["training"]["best_epochs"]
    energies = []
    for name in ("whole", "parts"):
        atoms = frame(50)
        atoms.calc = RACECalculator(folder / name, "cpu")
        energies.append(atoms.get_potential_energy())
    assert energies[1] == pytest.approx(energies[0], abs=1e-6)


def test_a_part_that_was_stopped_goes_on(runs, tmp_path, monkeypatch):
    path, folder = runs
    from race_calc.train import loop

    epochs, append = [], loop.append_log

    def stop(place, record):
        append(place, record)
        epochs.append(record["epoch"])
        if len(epochs) == 3:
            raise KeyboardInterrupt

    command = ["train", path, "--data", path.parent, "--out", tmp_path, "--members", "3:5"]
    monkeypatch.setattr(loop, "append_log", stop)
    assert run(*command)[0] == 130
    (tmp_path / "members-0000-0003").mkdir()
    code, output = run("join", path, "--data", path.parent, "--out", tmp_path)
    assert code == 1 and "nothing to resume there" in output
    assert run(*command, "--resume")[0] == 0
    places = tmp_path / "members-0003-0005", folder / "parts" / "members-0002-0005"
    one, other = (load_file(place / "training_state.safetensors")["weights"] for place in places)
    assert torch.allclose(one, other[1:], rtol=0, atol=2e-5)
    code, output = run(*command)
    assert code == 1 and "add --resume" in output


def test_of_another_configuration_or_unfinished(runs, tmp_path):
    path, _ = runs
    longer = write_run(tmp_path, members=5, training__epochs=9)
    out = tmp_path / "out"
    assert run("train", longer, "--out", out, "--members", "0:5")[0] == 0
    code, output = run("join", path, "--out", out)
    assert code == 1 and "another configuration" in output


@pytest.mark.parametrize(
    ("text", "told"),
    [("5:5", "part of 0:5"), ("0:6", "part of 0:5"), ("3", "part of 0:5"), ("-1:2", "part of 0:5"), ("rank", "RANK and WORLD_SIZE")],
)
def test_members_that_are_none(runs, text, told):
    config = load_config(runs[0])
    with pytest.raises(ValueError, match=told):
        members_of(text, config, {})


def test_ranks_share_the_members_out(runs):
    config = load_config(runs[0])
    parts = [members_of("rank", config, {"RANK": str(rank), "WORLD_SIZE": "3"}) for rank in range(3)]
    assert [member for part in parts for member in part] == list(range(5)) and max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(ValueError, match="rank 0 of 7 has no member"):
        members_of("rank", config, {"RANK": "0", "WORLD_SIZE": "7"})
    with pytest.raises(ValueError, match="RANK is 2"):
        members_of("rank", config, {"RANK": "2", "WORLD_SIZE": "2"})
    with pytest.raises(ValueError, match="trains 1 model"):
        members_of("0:1", config.model_copy(update={"posterior": "mve", "members": 1}), {})
