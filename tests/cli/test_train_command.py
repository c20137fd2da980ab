"""race-calc train: bad input ends with one line that says what to do, and status 1."""

import pytest
from typer.testing import CliRunner

from race_calc.cli import app


def result(*arguments):
    done = CliRunner().invoke(app, ["train", *map(str, arguments)])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    "content,message",
    [
        ("data: {train: nothing.xyz}\n", "nothing.xyz"),
        ("data: {train: a.xyz}\nmodel: {lmax: 2}\n", "did you mean model.l_max?"),
        ("data: {train: a.xyz}\nmodel: {hidden_irreps: 8x0e+8x1o}\n", "2e"),
        ("data: [", "not valid YAML"),
    ],
)
def test_bad_configurations(tmp_path, content, message):
    config = tmp_path / "train.yaml"
    config.write_text(content)
    code, output = result(config, "--out", tmp_path / "out")
    assert code == 1 and message in output and "Traceback" not in output
    assert not (tmp_path / "out").exists()


def test_missing_configuration_and_absent_gpu(tmp_path, monkeypatch):
    code, output = result(tmp_path / "none.yaml", "--out", tmp_path / "out")
    assert code == 1 and "does not exist" in output
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "train.yaml").write_text("data: {train: a.xyz}\n")
    code, output = result(tmp_path / "train.yaml", "--out", tmp_path / "out", "--device", "cuda")
    assert code == 1 and "no CUDA GPU" in output


def test_a_data_set_without_forces(tmp_path):
    (tmp_path / "a.xyz").write_text("1\nProperties=species:S:1:pos:R:3 energy=-1.0\nH 0 0 0\n")
    (tmp_path / "train.yaml").write_text("data: {train: a.xyz}\n")
    code, output = result(tmp_path / "train.yaml", "--out", tmp_path / "out")
    assert code == 1 and "forces" in output
