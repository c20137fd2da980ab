"""race-calc report: bad input ends it with one clear line and status 1, and writes nothing."""

import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from typer.testing import CliRunner

from race_calc.cli import app


@pytest.fixture
def files(tmp_path, tiny_model):
    for name, atoms in (("good", molecule("CH3CH2OH")), ("silicon", bulk("Si"))):
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=0.0 * atoms.positions)
        write(tmp_path / f"{name}.xyz", [atoms, atoms])
    (tmp_path / "empty.xyz").write_text("")
    (tmp_path / "words.jsonl").write_text("no log\n")
    return tmp_path


BAD = {
    "no model": ("words.jsonl", ["--data", "good.xyz"], "no model folder"),
    "other elements": (None, ["--data", "silicon.xyz"], "does not know the element Si"),
    "other elements elsewhere": (
        None,
        ["--data", "good.xyz", "--ood", "silicon.xyz"],
        "silicon.xyz: the model does not know the element Si",
    ),
    "an empty file": (None, ["--data", "empty.xyz"], "Empty file"),
    "no file": (None, ["--data", "none.xyz"], "does not exist"),
    "no log": (None, ["--data", "good.xyz", "--run", "words.jsonl"], "holds no run of a monitor"),
    "frames without a log": (None, ["--data", "good.xyz", "--flagged", "good.xyz"], "--run"),
    "a file twice": (None, ["--data", "good.xyz", "--ood", "good.xyz"], "given twice"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, files, tiny_model, monkeypatch):
    monkeypatch.chdir(files)
    model, arguments, words = BAD[case]
    result = CliRunner().invoke(app, ["report", model or str(tiny_model), *arguments, "--out", "page.html"])
    assert result.exit_code == 1
    lines = [line for line in result.output.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("race-calc report: ") and words in lines[0]
    assert not (files / "page.html").exists()


def test_the_output_must_be_an_html_file(files, tiny_model):
    result = CliRunner().invoke(app, ["report", str(tiny_model), "--data", str(files / "good.xyz"), "--out", str(files)])
    assert result.exit_code == 1 and "ends in .html" in result.output


def test_models_of_properties_are_refused(files, tiny_model, monkeypatch):
    monkeypatch.setattr("race_calc.cli.report.has_properties", lambda folder: True)
    arguments = ["report", str(tiny_model), "--data", str(files / "good.xyz"), "--out", str(files / "page.html")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1 and "race-calc evaluate" in result.output
