"""race-calc label: what it asks for."""

import pytest
from ase.build import molecule
from ase.io import read, write
from typer.testing import CliRunner

from race_calc.cli import app


def run(*arguments: str):
    return CliRunner().invoke(app, ["label", *arguments])


@pytest.fixture
def water(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("water.xyz", molecule("H2O"))
    (tmp_path / "mine.py").write_text("from ase.calculators.emt import EMT\n\ndef emt():\n    return EMT()\n")
    return tmp_path


def test_a_calculator_of_ones_own(water):
    found = run("water.xyz", "--calculator", "mine:emt", "--processes", "1")
    assert found.exit_code == 0, found.output
    assert "1 structures labelled with mine:emt" in found.output
    assert read("water-mine-emt.xyz").info["labels"] == "mine:emt"
    again = run("water.xyz", "--calculator", "mine:emt")
    assert again.exit_code == 1 and "is there already" in again.output


def test_there_and_back(water):
    found = run("water.xyz", "--export", "away")
    assert found.exit_code == 0 and "--import away" in found.output
    none = run("water.xyz", "--import", "away")
    assert none.exit_code == 1 and "0 are refused, 1 are missing" in none.output
    run("water.xyz", "--calculator", "mine:emt", "--processes", "1", "--out", "away/result.xyz")
    table = water / "away" / "table.csv"
    table.write_text(table.read_text().replace("00000.xyz,", "00000.xyz,result.xyz"))
    found = run("water.xyz", "--import", "away")
    assert found.exit_code == 0 and read("water-labelled.xyz").info["labels"] == "elsewhere", found.output
    assert "is there already" in run("water.xyz", "--import", "away").output


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["water.xyz"], "give one of --with METHOD, --calculator"),
        (["water.xyz", "--with", "gfn2-xtb", "--calculator", "mine:emt"], "give one of --with METHOD, --calculator"),
        (["water.xyz", "--export", "away", "--calculator", "mine:emt"], "give one of --with METHOD, --calculator"),
        (["water.xyz", "--export", "away", "--sample", "md"], "--sample cannot be told beside --export"),
        (["water.xyz", "--import", "away", "--dask", "tcp://a:1"], "--dask cannot be told beside --import"),
        (["water.xyz", "--import", "away"], "give the folder that --export wrote"),
        (["water.xyz", "--calculator", "mine:emt", "--dask", "tcp://a:1", "--processes", "2"], "--processes cannot be told beside --dask"),
        (["water.xyz", "--with", "dft"], "there is no method 'dft'"),
        (["absent.xyz", "--calculator", "mine:emt"], "absent.xyz does not exist"),
        (["mine.py", "--calculator", "mine:emt"], "ASE cannot read mine.py"),
        (["water.xyz", "--calculator", "mine:emt", "--frames", "3"], "--frames belong to --sample md"),
        (["water.xyz", "--calculator", "mine:emt", "--sample", "mc"], "md is what there is"),
        (["water.xyz", "--calculator", "mine:emt", "--sample", "md"], "needs --temperatures and --frames"),
        (["water.xyz", "--calculator", "mine:emt", "--sample", "md", "--temperatures", "hot", "--frames", "3"], "give numbers in K"),
        (["water.xyz", "--calculator", "mine:emt", "--out", "absent/out.xyz"], "does not exist: make it"),
    ],
)
def test_bad_input_is_told(water, arguments, message):
    found = run(*arguments)
    assert found.exit_code == 1 and message in found.output
    assert sorted(path.name for path in water.iterdir() if path.suffix != ".pyc" and path.name != "__pycache__") == ["mine.py", "water.xyz"]
