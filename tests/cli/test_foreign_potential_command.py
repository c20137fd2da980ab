"""`race-calc calibrate` and `evaluate` on potentials of others, and what is wrong with their arguments."""

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.morse import MorsePotential
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.md.verlet import VelocityVerlet
from typer.testing import CliRunner

from race_calc import Committee, UncertaintyMonitor
from race_calc.cli import app

MODULE = """
from ase.calculators.morse import MorsePotential
from race_calc import Committee

def committee():
    return Committee([MorsePotential(epsilon=0.6, r0=2.6, rho0=rho, rcut1=3.0, rcut2=3.4) for rho in (5.9, 6.0, 6.1, 6.2)])

def plain():
    return MorsePotential()

def fails():
    raise RuntimeError("no licence")
"""


def labelled(n, noise, first):
    for seed in range(first, first + n):
        rng = np.random.default_rng(seed)
        atoms = bulk("Cu", cubic=True)
        atoms.positions += rng.normal(scale=noise, size=(4, 3))
        atoms.calc = MorsePotential(epsilon=0.6, r0=2.6, rho0=6.05, rcut1=3.0, rcut2=3.4)
        labels = {
            "energy": atoms.get_potential_energy() + 0.02 * rng.normal(),
            "forces": atoms.get_forces() + 0.02 * rng.normal(size=(4, 3)),
        }
        atoms.calc = SinglePointCalculator(atoms, **labels)
        yield atoms


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "potentials_of_mine.py").write_text(MODULE)
    for name, given in {"held.xyz": (20, 0.1, 0), "test.xyz": (4, 0.1, 50), "hot.xyz": (4, 0.25, 70)}.items():
        write(tmp_path / name, list(labelled(*given)))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


def test_a_committee_is_calibrated_evaluated_and_watched(folder):
    result = run("calibrate", "held.xyz", "--calculator", "potentials_of_mine:committee", "--out", "made/calibration.json")
    assert result.exit_code == 0, result.output
    assert "calibration='made/calibration.json'" in result.output.replace("\n", " ")
    members = [MorsePotential(epsilon=0.6, r0=2.6, rho0=rho, rcut1=3.0, rcut2=3.4) for rho in (5.9, 6.0, 6.1, 6.2)]
    calc = Committee(members, calibration="made/calibration.json")
    assert calc.thresholds["forces_uncertainty_rms_epistemic"] > 0
    atoms = bulk("Cu", cubic=True)
    atoms.calc = calc
    monitor = UncertaintyMonitor(VelocityVerlet(atoms, 1.0), flagged=None)
    assert atoms.calc.results["calibrated"] and monitor.criteria[0].threshold == calc.thresholds[monitor.criteria[0].name]

    result = run(
        "evaluate", "test.xyz", "--ood", "hot.xyz", "--calculator", "potentials_of_mine:committee", "--figures", "f", "--json", "n.json"
    )
    assert result.exit_code == 0, result.output
    assert "hot.xyz told from test.xyz" in result.output
    content = json.loads((folder / "n.json").read_text())
    assert content["model"] == "potentials_of_mine:committee" and content["data"][0]["structures"] == 4
    assert content["dtype"] is None  # that of the committee is not known
    assert {path.suffix for path in (folder / "f").iterdir()} == {".png", ".pdf"}


@pytest.mark.parametrize(("arguments", "message"), [
    (["evaluate", "test.xyz", "--calculator", "potentials_of_mine"], 'write "module:function"'),
    (["evaluate", "test.xyz", "--calculator", "no_such_module:committee"], "No module named 'no_such_module'"),
    (["evaluate", "test.xyz", "--calculator", "potentials_of_mine:nothing"], "has no attribute 'nothing'"),
    (["evaluate", "test.xyz", "--calculator", "potentials_of_mine:fails"], "RuntimeError: no licence"),
    (["evaluate", "test.xyz", "--calculator", "potentials_of_mine:plain"], "made a MorsePotential, which has no predictions: wrap it"),
    (["evaluate", "model", "test.xyz", "--calculator", "potentials_of_mine:committee"], "give the data file only"),
    (["evaluate", "test.xyz"], "give the folder of the model and a data file"),
    (["calibrate", "held.xyz", "--calculator", "potentials_of_mine:committee"], "--out calibration.json"),
    (["calibrate", "none.xyz", "--calculator", "potentials_of_mine:committee", "--out", "."], "--out . is a folder"),
    (["calibrate", "model", "held.xyz", "--out", "c.json"], "--out goes with --calculator"),
    (["evaluate", "test.xyz", "--calculator", "potentials_of_mine:committee", "--device", "cpu"], "--device cannot be told to a"),
    (["evaluate", "test.xyz", "--calculator", "potentials_of_mine:committee", "--dtype", "float64", "--device", "cpu"],
     "--device and --dtype cannot be told to a --calculator"),
    (["calibrate", "held.xyz", "--calculator", "potentials_of_mine:committee", "--out", "c.json", "--device", "cuda"],
     "--device cannot be told to a --calculator: leave it out"),
    (["calibrate", "nothing.xyz", "--calculator", "potentials_of_mine:committee", "--out", "c.json"], "does not exist"),
])  # fmt: skip
def test_wrong_arguments_are_one_line(folder, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 1 and message in result.output and "Traceback" not in result.output


def test_a_calibration_that_cannot_be_used(folder):
    members = [MorsePotential(), MorsePotential()]
    for content, message in (
        ("{", "damaged"),
        ('{"format": "race_calc calibration", "version": 99}', "upgrade race_calc"),
        ("{}", "is not a"),
    ):
        (folder / "c.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            Committee(members, calibration="c.json")
    with pytest.raises(FileNotFoundError):
        Committee(members, calibration="none.json")
