"""race-calc evaluate: the table, the JSON file, --select and errors of one line."""

import json

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from typer.testing import CliRunner

from race_calc.calculator import RACECalculator
from race_calc.cli import app
from race_calc.cli.evaluate import select_frames, short_names
from race_calc.data.dataset import dataset_from_atoms
from race_calc.ood.detection import auroc


def frames(name="CH3CH2OH", n=3, noise=0.05, **info):
    found = []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        atoms = molecule(name)
        atoms.positions += rng.normal(scale=noise, size=atoms.positions.shape)
        atoms.info = {"index": seed, "even": seed % 2 == 0, **info}
        atoms.calc = SinglePointCalculator(atoms, energy=-4180.0 + rng.normal(), forces=rng.normal(size=(len(atoms), 3)))
        found.append(atoms)
    return found


@pytest.fixture
def files(tmp_path):
    write(tmp_path / "cold.xyz", frames(source="md"))
    write(tmp_path / "hot.xyz", frames(noise=0.3, source="md") + frames(noise=0.2, source="other", n=2))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_table_and_json_agree_with_the_calculator(tiny_model, files):
    out = files / "new" / "numbers.json"
    result = run(tiny_model, files / "cold.xyz", files / "hot.xyz", "--json", out)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 100 + len(str(out))
    for text in ("cold.xyz", "hot.xyz", "meV/Å", "AUROC of cold.xyz against", "bald_forces_max"):
        assert text in result.output
    content = json.loads(out.read_text())
    cold, hot = content["data"]
    assert (cold["structures"], hot["structures"], cold["atoms"]) == (3, 5, 27)
    assert cold["file"] == str(files / "cold.xyz") and len(cold["sha256"]) == 64

    calculator = RACECalculator(tiny_model)
    predictions = [calculator.prediction(atoms) for atoms in frames()]
    d_energy = [atoms.get_potential_energy() - p.energy[0] for atoms, p in zip(frames(), predictions)]
    d_forces = np.concatenate([atoms.get_forces() - p.forces for atoms, p in zip(frames(), predictions)])
    assert cold["energy_mae_meV"] == pytest.approx(1e3 * np.abs(d_energy).mean(), abs=1e-3)  # 1e-8 Å in the file
    assert cold["energy_per_atom_rmse_meV"] == pytest.approx(1e3 * np.sqrt(np.mean(np.square(d_energy))) / 9, abs=1e-3)
    assert cold["force_rmse_meV_per_A"] == pytest.approx(1e3 * np.sqrt((d_forces**2).mean()), abs=1e-3)
    assert cold["stress_rmse_meV_per_A3"] is None and cold["structures_with_stress"] == 0
    assert {"force_mean_sigma_meV_per_A", "energy_nll_nat_per_structure", "force_nll_nat_per_atom",
            "energy_coverage_68_fraction", "force_coverage_90_fraction", "force_coverage_95_fraction"} <= set(cold)
    again = [calculator.prediction(atoms).bald_forces.max() for atoms in frames(noise=0.3) + frames(noise=0.2, n=2)]
    expected = auroc([p.bald_forces.max() for p in predictions], again)
    assert content["auroc"]["out_of_distribution"][str(files / "hot.xyz")]["bald_forces_max"] == pytest.approx(expected)


def test_one_data_set_has_no_auroc_and_select_keeps_its_frames(tiny_model, files):
    out = files / "numbers.json"
    result = run(tiny_model, files / "hot.xyz", "--select", "source=other", "--json", out, "--dtype", "float32")
    assert result.exit_code == 0, result.output
    assert "AUROC" not in result.output and "source=other" in result.output
    content = json.loads(out.read_text())
    assert content["data"][0]["structures"] == 2 and content["select"] == "source=other" and "auroc" not in content


def test_stress_is_shown_where_there_is_one(tiny_model, tmp_path):
    atoms = bulk("C", a=3.6)
    atoms.calc = SinglePointCalculator(atoms, energy=-2059.0, forces=np.zeros((2, 3)), stress=np.arange(6) * 0.01)
    write(tmp_path / "crystal.xyz", atoms)
    out = tmp_path / "numbers.json"
    result = run(tiny_model, tmp_path / "crystal.xyz", "--json", out)
    assert result.exit_code == 0, result.output
    assert "meV/Å³" in result.output
    numbers = json.loads(out.read_text())["data"][0]
    atoms.calc = RACECalculator(tiny_model)
    error = 1e3 * (np.arange(6) * 0.01 - atoms.get_stress())
    assert numbers["stress_rmse_meV_per_A3"] == pytest.approx(np.sqrt((error**2).mean()))


def test_npz_parts_are_data_too(tiny_model, tmp_path):
    atoms = frames()
    arrays = {"R": [a.positions for a in atoms], "E": [a.get_potential_energy() for a in atoms],
              "F": [a.get_forces() for a in atoms]}
    parts = {f"{key}_{part}": np.array(value) for key, value in arrays.items() for part in ("train", "test")}
    np.savez(tmp_path / "rmd17.npz", Z=atoms[0].numbers, **parts)
    result = run(tiny_model, f"{tmp_path}/rmd17.npz#test")
    assert result.exit_code == 0, result.output
    assert "rmd17.npz#test" in result.output


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("absent.xyz",), "data file absent.xyz does not exist"),
        (("cold.xyz", "--select", "source"), "write KEY=VALUE"),
        (("cold.xyz", "--select", "T=300"), "no frame of cold.xyz has the info key 'T': it has even, index, source"),
        (("cold.xyz", "--select", "source=dft"), "no frame of cold.xyz has source equal to 'dft': its values are md"),
        (("cold.xyz", "--dtype", "float16"), 'use "float64" or "float32"'),
        (("cold.xyz", "--device", "abacus"), "device is 'abacus'"),
        (("ammonia.xyz",), "ammonia.xyz: the model does not know the element N"),
    ],
)
def test_bad_input_ends_with_one_line(tiny_model, files, monkeypatch, arguments, message):
    write(files / "ammonia.xyz", frames("NH3"))
    monkeypatch.chdir(files)
    result = run(tiny_model, *arguments)
    assert result.exit_code == 1
    assert message in result.output and "race-calc evaluate: " in result.output and "Traceback" not in result.output


def test_missing_model(files):
    result = run(files / "absent", files / "cold.xyz")
    assert result.exit_code == 1 and "there is no model folder" in result.output


def test_select_compares_text_numbers_and_truth():
    dataset = dataset_from_atoms(frames(n=4, T=300, source="a=b"))
    assert [a.info["index"] for a in select_frames(dataset, "index=2.0", "").structures] == [2]
    assert len(select_frames(dataset, "even=True", "")) == 2
    assert len(select_frames(dataset, "T=300", "")) == 4
    assert len(select_frames(dataset, "source=a=b", "")) == 4


def test_names_are_short_where_they_differ():
    assert short_names(["a/x.xyz", "b/y.xyz"]) == ["x.xyz", "y.xyz"]
    assert short_names(["a/x.xyz", "b/x.xyz"]) == ["a/x.xyz", "b/x.xyz"]
