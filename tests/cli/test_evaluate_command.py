"""race-calc evaluate: the table, the JSON file, --select and errors of one line."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from typer.testing import CliRunner

from race_calc.cli import app
from race_calc.cli.evaluate import select_frames, short_names
from race_calc.data.dataset import dataset_from_atoms
from race_calc.interfaces.calculator import RACECalculator
from race_calc.posterior.stack import StackPosterior
from race_calc.uncertainty.detection import auroc


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


def atoms_of(atoms, number):
    return atoms.numbers == number


@pytest.fixture
def files(tmp_path):
    write(tmp_path / "cold.xyz", frames(source="md"))
    write(tmp_path / "hot.xyz", frames(noise=0.3, source="md") + frames(noise=0.2, source="other", n=2))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_table_and_json_agree_with_the_calculator(tiny_model, files):
    out = files / "new" / "numbers.json"
    result = run(tiny_model, files / "cold.xyz", "--ood", files / "hot.xyz", "--json", out)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 100 + len(str(out))
    for text in (
        "cold.xyz",
        "hot.xyz",
        "meV/Å",
        "hot.xyz told from cold.xyz",
        "bald_forces_max",
        "not calibrated",
        "Forces by element",
        "Unified score",
    ):
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
    assert {
        "force_mean_sigma_meV_per_A",
        "energy_nll_nat_per_structure",
        "force_nll_nat_per_atom",
        "energy_coverage_68_fraction",
        "force_coverage_90_fraction",
        "force_coverage_95_fraction",
    } <= set(cold)
    again = [calculator.prediction(atoms).bald_forces.max() for atoms in frames(noise=0.3) + frames(noise=0.2, n=2)]
    expected = auroc([p.bald_forces.max() for p in predictions], again)
    detected = content["detection"]["out_of_distribution"][str(files / "hot.xyz")]
    assert detected["bald_forces_max"]["auroc"] == pytest.approx(expected)
    assert set(detected["atom: bald_forces"]) == {"auroc", "aupr", "fpr_at_95_tpr", "alarms_known", "alarms_other", "bad", "missed"}
    threshold = calculator.thresholds["bald_forces_max"]
    assert detected["bald_forces_max"]["alarms_other"] == np.mean(np.array(again) > threshold)
    d_hot = [a.get_forces() - calculator.prediction(a).forces for a in frames(noise=0.3) + frames(noise=0.2, n=2)]
    bad = np.array([np.sqrt((d**2).mean()) > 5 * np.sqrt((d_forces**2).mean()) for d in d_hot])
    assert detected["bald_forces_max"]["bad"] == bad.sum()
    assert detected["bald_forces_max"]["missed"] == (bad & ~(np.array(again) > threshold)).sum()
    assert content["calibrated"] is False and cold["calibration_after"] == {}
    error = cold["calibration_before"]["energy"]["calibration_error"]
    assert error["value"] == pytest.approx(cold["energy_calibration_error"]) and error["low"] <= error["value"] <= error["high"]
    carbon = d_forces[np.tile(atoms_of(frames()[0], 6), 3)]
    assert cold["by_element"]["C"]["force_rmse_meV_per_A"] == pytest.approx(1e3 * np.sqrt((carbon**2).mean()), abs=1e-3)
    assert sum(group["atoms"] for group in hot["by_force_size"]) == hot["atoms"]
    terms = content["unified_score"]["terms"]
    assert content["unified_score"]["score"] == pytest.approx(np.mean(list(terms.values())))
    spread = 0.05 * np.sqrt(np.mean(np.concatenate([atoms.get_forces() for atoms in frames()]) ** 2))
    rmse = np.sqrt((d_forces**2).mean())
    assert terms["rmse_forces"] == pytest.approx(rmse / (rmse + spread), abs=1e-5)


def test_one_data_set_has_no_auroc_and_select_keeps_its_frames(tiny_model, files):
    out = files / "numbers.json"
    result = run(tiny_model, files / "hot.xyz", "--select", "source=other", "--json", out, "--dtype", "float32")
    assert result.exit_code == 0, result.output
    assert "AUROC" not in result.output and "Unified" not in result.output and "source=other" in result.output
    content = json.loads(out.read_text())
    assert content["data"][0]["structures"] == 2 and content["select"] == "source=other" and "detection" not in content


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
    arrays = {"R": [a.positions for a in atoms], "E": [a.get_potential_energy() for a in atoms], "F": [a.get_forces() for a in atoms]}
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
        (("cold.xyz", "--ood", "cold.xyz"), "given twice"),
        (("cold.xyz", "--frames", "7:"), "cold.xyz (index 7:) holds no structures"),
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


def test_a_calibrated_model_is_shown_before_and_after_and_drawn(tiny_model, files, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    write(tmp_path / "held_back.xyz", frames(n=12, noise=0.06))
    assert CliRunner().invoke(app, ["calibrate", str(model), str(tmp_path / "held_back.xyz")]).exit_code == 0
    out = tmp_path / "numbers.json"
    result = run(model, files / "cold.xyz", "--ood", files / "hot.xyz", "--figures", tmp_path / "new" / "figures", "--json", out)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines()[:-6])) <= 100 + len(str(out))
    assert "calibrated: σ scaled" in result.output and "reduced" in result.output
    for name in ("error_against_sigma", "calibration_curves", "intervals"):
        assert (tmp_path / "new" / "figures" / f"{name}.png").stat().st_size > 5000
        assert (tmp_path / "new" / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    cold = json.loads(out.read_text())["data"][0]
    calculator = RACECalculator(model)
    sigma = [calculator.get_property("energy_uncertainty", atoms) for atoms in frames()]
    assert cold["energy_mean_sigma_meV"] == pytest.approx(1e3 * np.mean(sigma), rel=1e-5)
    assert set(cold["calibration_after"]) == set(cold["calibration_before"]) == {"energy", "forces", "ellipsoids"}


def test_one_structure_and_no_other_set(tiny_model, tmp_path):
    write(tmp_path / "one.xyz", frames(n=1))
    result = run(tiny_model, tmp_path / "one.xyz", "--json", tmp_path / "one.json", "--figures", tmp_path)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "one.json").read_text())["data"][0]["calibration_before"]["energy"]["calibration_error"]["low"] is None


def test_without_uncertainty_there_is_no_score_to_tell_the_data_apart(tiny_model, files, monkeypatch):
    full = StackPosterior.predict
    strip = dict(energy_aleatoric=None, forces_covariance_aleatoric=None, bald_energy=None, bald_forces=None, n_members=1)
    monkeypatch.setattr(StackPosterior, "predict", lambda self, graph: replace(full(self, graph), **strip))
    result = run(tiny_model, files / "cold.xyz", "--ood", files / "hot.xyz")
    assert result.exit_code == 0, result.output
    assert "Forces by size" in result.output and "told from" not in result.output


def test_missing_model(files):
    result = run(files / "absent", files / "cold.xyz")
    assert result.exit_code == 1 and "no model folder" in result.output


def test_select_compares_text_numbers_and_truth():
    dataset = dataset_from_atoms(frames(n=4, T=300, source="a=b"))
    assert [a.info["index"] for a in select_frames(dataset, "index=2.0", "").structures] == [2]
    assert len(select_frames(dataset, "even=True", "")) == 2
    assert len(select_frames(dataset, "T=300", "")) == 4
    assert len(select_frames(dataset, "source=a=b", "")) == 4


def test_names_are_short_where_they_differ():
    assert short_names(["a/x.xyz", "b/y.xyz"]) == ["x.xyz", "y.xyz"]
    assert short_names(["a/x.xyz", "b/x.xyz"]) == ["a/x.xyz", "b/x.xyz"]
