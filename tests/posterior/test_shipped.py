"""Models by name, from any folder."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from race_calc import RACECalculator
from race_calc.cli import app
from race_calc.posterior import shipped
from race_calc.posterior.checkpoint import load_checkpoint

MODELS = Path(__file__).parents[2] / "models"


def test_a_name_is_a_shipped_model_and_what_has_a_separator_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.model_folder("silicon") == MODELS / "silicon"
    assert shipped.model_folder("./silicon") == Path("silicon")
    assert shipped.model_folder(Path("silicon")) == Path("silicon")
    shutil.copytree(MODELS / "3bpa-llpr", tmp_path / "silicon")
    assert RACECalculator("silicon", "cpu").elements == ("Si",)
    assert "H" in RACECalculator("./silicon", "cpu").elements
    (tmp_path / "silicon").rename("mine")
    assert "H" in RACECalculator("mine", "cpu").elements
    for wrong in (None, 3):
        with pytest.raises(TypeError, match="path of its folder"):
            load_checkpoint(wrong)


def test_a_name_that_is_none_names_those_that_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="3bpa-de, 3bpa-llpr, 3bpa-xtb, fulvene, silicon"):
        RACECalculator("silikon")
    done = CliRunner().invoke(app, ["info", "silikon"])
    assert done.exit_code == 1 and "3bpa-de" in done.output


def test_the_list_and_a_file_that_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "INSTALLED", tmp_path / "models")
    for name in ("silicon", "3bpa-llpr"):
        shutil.copytree(MODELS / name, tmp_path / "models" / name)
    done = CliRunner().invoke(app, ["models", "--json"])
    first, second = json.loads(done.output)
    assert (first["name"], second["name"], second["elements"]) == ("3bpa-llpr", "silicon", ["Si"])
    assert Path(first["folder"]) == tmp_path / "models" / "3bpa-llpr" and 1 < first["megabytes"] < 5
    assert "silicon" in CliRunner().invoke(app, ["models"]).output
    weights = tmp_path / "models" / "silicon" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    done = CliRunner().invoke(app, ["models"])
    assert done.exit_code == 1 and "weights.safetensors" in done.output


def test_a_shipped_model_is_not_calibrated_in_its_place():
    done = CliRunner().invoke(app, ["calibrate", "silicon", "some.xyz"])
    assert done.exit_code == 1 and "copy" in done.output
