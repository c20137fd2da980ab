"""A model folder whose files are not those that it was written with is refused, and says why."""

import dataclasses
import json
import os
import re
import shutil
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

from race_calc.cli import app
from race_calc.interfaces.calculator import RACECalculator
from race_calc.posterior.calibrations import save_calibration
from race_calc.posterior.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from race_calc.posterior.manifest import CALIBRATION, CARD, CONFIG, MANIFEST, START, WEIGHTS, read_manifest, write_manifest

CALIBRATED = Path(__file__).resolve().parents[1] / "old_checkpoints" / "version-4-ensemble"


@pytest.fixture
def model(tmp_path):
    """A calibrated model of format 4, with a start structure."""
    folder = Path(shutil.copytree(CALIBRATED, tmp_path / "model"))
    (folder / START).write_text("1\n\nH 0.0 0.0 0.0\n")
    write_manifest(folder)
    return folder


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, CALIBRATION, START])
def test_a_flipped_bit_is_an_error(model, name):
    flip(model / name)
    with pytest.raises(CheckpointError, match=f"{name} is not the file that manifest.json names"):
        RACECalculator(model)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, CALIBRATION, START, MANIFEST])
def test_a_missing_file_is_an_error(model, name):
    (model / name).unlink()
    with pytest.raises((CheckpointError, FileNotFoundError), match=f"has no {name}"):
        load_checkpoint(model)


def test_an_edited_card_is_a_warning_until_the_manifest_is_renewed(model):
    (model / CARD).write_text("# measured by hand\n")
    with pytest.warns(UserWarning, match=r"card.md is not the file.*race-calc manifest"):
        load_checkpoint(model)
    done = CliRunner().invoke(app, ["manifest", str(model)])
    assert done.exit_code == 0 and "names 5 files; new or changed: card.md" in " ".join(done.output.split())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_checkpoint(model)


def test_the_calibration_of_another_time_is_refused_and_the_raw_model_loads(model):
    content = json.loads((model / CALIBRATION).read_text())
    content["energy"]["epistemic"] *= 2
    (model / CALIBRATION).write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"calibration.json is not the file.*calibrate it again.*calibrated=False"):
        RACECalculator(model)
    assert RACECalculator(model, calibrated=False).calibration is None
    save_calibration(model, load_checkpoint(CALIBRATED).calibration)
    assert RACECalculator(model).calibration == load_checkpoint(CALIBRATED).calibration


def test_files_that_nobody_reads_may_lie_there_and_those_that_are_read_may_not(model, tiny_model):
    (model / "notes.txt").write_text("mine")
    load_checkpoint(model)
    plain = Path(shutil.copytree(tiny_model, model.parent / "plain"))
    shutil.copy(model / CALIBRATION, plain)
    with pytest.raises(CheckpointError, match=r"calibration.json is not among the files that manifest.json names"):
        load_checkpoint(plain)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, CALIBRATION, START, MANIFEST])
@pytest.mark.parametrize("kind", ["dangling", "loop", "folder", "pipe"])
def test_what_is_no_file_is_an_error_and_waits_for_nothing(model, name, kind):
    path = model / name
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(name if kind == "loop" else "nowhere")
    with pytest.raises(CheckpointError, match=f"{name} is a (link that leads nowhere|folder|pipe)"):
        load_checkpoint(model)


@pytest.mark.parametrize("kind", ["dangling", "pipe"])
def test_no_calibration_is_what_is_not_there_in_older_formats_too(tmp_path, kind):
    model = Path(shutil.copytree(CALIBRATED.parent / "version-3-ensemble", tmp_path / "model"))
    (model / CALIBRATION).unlink()
    assert load_checkpoint(model).calibration is None
    if kind == "pipe":
        os.mkfifo(model / CALIBRATION)
    else:
        (model / CALIBRATION).symlink_to("nowhere")
    with pytest.raises(CheckpointError, match="calibration.json is a"):
        load_checkpoint(model)


def test_a_link_to_the_right_file_is_taken(model):
    (model / WEIGHTS).rename(model.parent / "elsewhere")
    (model / WEIGHTS).symlink_to(model.parent / "elsewhere")
    assert load_checkpoint(model).members == 2


@pytest.mark.parametrize(
    "files, message",
    [
        ("none", '"files" must name'),
        ({WEIGHTS: "0" * 64}, '"files" must name'),
        ({WEIGHTS: "0" * 64, CONFIG: "0" * 64, "../../etc/passwd": "0" * 64}, '"files" must name'),
        ({WEIGHTS: "0" * 64, CONFIG: 7}, "SHA-256 of config.json is 7"),
    ],
)
def test_a_manifest_that_is_none(model, files, message):
    content = json.loads((model / MANIFEST).read_text())
    (model / MANIFEST).write_text(json.dumps(content | {"files": files}))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(model)


def test_calibrating_does_not_trust_other_files_anew(model):
    before = read_manifest(model)
    flip(model / CARD)
    save_calibration(model, load_checkpoint(CALIBRATED).calibration)
    assert read_manifest(model)[CARD] == before[CARD]


@pytest.mark.parametrize("name", ["3bpa-de", "3bpa-xtb", "3bpa-llpr"])
def test_shipped_models_are_as_their_manifests_say(name):
    folder = Path(__file__).resolve().parents[2] / "models" / name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoint = load_checkpoint(folder)
    assert checkpoint.calibration is not None and set(read_manifest(folder)) <= {path.name for path in folder.iterdir()}


class Stopped(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("what, changes", [("model", 7), ("calibration", 2)])
def test_a_killed_writer_leaves_an_old_folder_or_one_that_says_so(model, monkeypatch, what, changes):
    """Stopped before each of its changes of the folder; after all of them the new folder is there."""
    kept, replace, unlink = load_checkpoint(CALIBRATED), os.replace, Path.unlink
    if what == "model":  # of other weights
        kept = dataclasses.replace(kept, parameters={name: 1.1 * value for name, value in kept.parameters.items()})
    left = 0

    def counted(change):
        def one(*names, **options):
            nonlocal left
            left -= 1
            if left < 0:
                raise Stopped
            return change(*names, **options)

        return one

    monkeypatch.setattr(os, "replace", counted(replace))
    monkeypatch.setattr(Path, "unlink", counted(unlink))
    outcomes = []
    for done in range(changes + 1):
        folder, left = Path(shutil.copytree(model, model.parent / f"{what}-{done}")), done
        try:
            save_checkpoint(folder, kept, "# new\n") if what == "model" else save_calibration(folder, kept.calibration)
            outcomes.append("written")
        except Stopped:
            outcomes.append("stopped")
        try:
            found = load_checkpoint(folder)
        except (CheckpointError, FileNotFoundError) as error:
            assert 0 < done < changes and re.search("writing (it )?was stopped", str(error)), error
        else:
            assert found.calibration == (None if what == "model" and done == changes else kept.calibration)
    assert outcomes == ["stopped"] * changes + ["written"]
