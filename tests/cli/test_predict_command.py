"""race-calc predict: every structure of a file, to three kinds of files."""

import csv
import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from typer.testing import CliRunner

from race_calc import RACECalculator
from race_calc.cli import app


def run(*arguments):
    done = CliRunner().invoke(app, ["predict", *map(str, arguments)])
    return done.exit_code, done.output


@pytest.fixture
def frames(tmp_path):
    structures = [molecule("CH3CH2OH"), molecule("H2O"), Atoms("O")]
    structures[0].rattle(0.05, seed=0)
    write(tmp_path / "in.xyz", structures)
    return structures


def test_a_potential_to_every_format(tiny_model, frames, tmp_path):
    for suffix in ("csv", "json", "xyz"):
        code, output = run(tiny_model, tmp_path / "in.xyz", "--out", tmp_path / "new" / f"out.{suffix}")
        assert code == 0 and "3 structures" in output, output
    calculator = RACECalculator(tiny_model, device="cpu")
    expected = [float(calculator.get_potential_energy(atoms)) for atoms in frames]
    rows = list(csv.DictReader((tmp_path / "new" / "out.csv").open()))
    assert [float(row["energy"]) for row in rows] == pytest.approx(expected, abs=1e-6)
    assert rows[0]["formula"] == "C2OH6" and float(rows[0]["energy_uncertainty"]) > 0
    content = json.loads((tmp_path / "new" / "out.json").read_text())
    assert content[1]["energy"] == pytest.approx(expected[1]) and "forces_uncertainty_rms" in content[1]
    back = read(tmp_path / "new" / "out.xyz", ":")
    assert back[0].get_potential_energy() == pytest.approx(expected[0]) and back[0].info["labels"] == "predicted"
    np.testing.assert_allclose(back[0].get_forces(), calculator.get_forces(frames[0]), atol=1e-6)


def test_bad_structures_are_left_out_and_numbers_are_those_of_the_file(tiny_model, frames, tmp_path):
    write(tmp_path / "in.xyz", [frames[0], Atoms("Si"), frames[1], frames[2]])
    code, output = run(tiny_model, tmp_path / "in.xyz", "--out", tmp_path / "out.csv", "--frames", "1:")
    assert code == 0 and "2 structures" in output and "left out: 1, the first frame 1: " in output, output
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [(row["structure"], row["formula"]) for row in rows] == [("2", "OH2"), ("3", "O")]


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda folder, frames: folder / "out.txt", "ends in .csv, .json, .xyz"),
        (lambda folder, frames: folder / "in.xyz", "is the data file"),
        (lambda folder, frames: write(folder / "in.xyz", Atoms("Si")), "frame 0: .*does not know the element Si"),
        (lambda folder, frames: (folder / "in.xyz").unlink(), "does not exist"),
    ],
)
def test_bad_input(tiny_model, frames, tmp_path, change, said):
    import re

    out = change(tmp_path, frames) or tmp_path / "out.csv"
    code, output = run(tiny_model, tmp_path / "in.xyz", "--out", out)
    assert code == 1 and re.search(said, output), output
    assert not (tmp_path / "out.csv").exists()
