"""race-calc evaluate does not flatter: structures seen before, energies of another level, parts of npz files."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from made_up import ethanols
from typer.testing import CliRunner

from race_calc.cli import app
from race_calc.data.dataset import dataset_from_atoms
from race_calc.data.hashes import geometry_hashes
from race_calc.evaluate.assessment import assess
from race_calc.interfaces.calculator import RACECalculator
from race_calc.posterior.manifest import write_manifest
from race_calc.report.evaluation_doubts import doubted_name


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_an_overlap_is_named_and_results_without_it_are_those_of_the_rest(tiny_model, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    everything = ethanols(n=14, noise=0.06)
    write(tmp_path / "held_back.xyz", everything[:12])
    write(tmp_path / "all.xyz", everything)
    write(tmp_path / "new.xyz", everything[12:])
    assert CliRunner().invoke(app, ["calibrate", str(model), str(tmp_path / "held_back.xyz")]).exit_code == 0
    config = json.loads((model / "config.json").read_text())
    hashes = geometry_hashes(dataset_from_atoms(everything))
    config["data"]["structures"] = {"train": hashes[0], "validation": hashes[1]}
    (model / "config.json").write_text(json.dumps(config))
    write_manifest(model)
    told = {}
    for name, more in (("all", ()), ("new", ()), ("part", ("--frames", "11:"))):
        file = tmp_path / f"{'all' if name == 'part' else name}.xyz"
        result = run(model, file, "--ood", tmp_path / "held_back.xyz", "--json", tmp_path / "out.json", *more)
        assert result.exit_code == 0, result.output
        told[name] = json.loads((tmp_path / "out.json").read_text())
        if name == "all":
            text = " ".join(result.output.split())
            assert "all.xyz: the model has seen 12 of 14 structures (1 trained on, 1 the validation of the training, 12" in text
            assert "all.xyz, unseen" in text and "held_back.xyz told from all.xyz, unseen" in text and "nothing is left" in text
    first = told["all"]["data"][0]
    assert first["overlap"] | {"not_recorded": None} == {
        "trained_on": 1, "chosen_on": 1, "calibrated_on": 12, "seen": 12, "unseen": 2, "not_recorded": None
    }  # fmt: skip
    rest, new = first["without_overlap"], told["new"]["data"][0]
    assert new["overlap"]["seen"] == 0 and new["without_overlap"] is None
    assert rest["structures"] == 2 and rest["force_rmse_meV_per_A"] == pytest.approx(new["force_rmse_meV_per_A"], rel=1e-12)
    assert first["force_rmse_meV_per_A"] != pytest.approx(new["force_rmse_meV_per_A"], rel=1e-3)
    assert told["all"]["unified_score"] == told["new"]["unified_score"]  # of what was not seen
    assert told["part"]["data"][0]["structures"] == 3 and told["part"]["frames"] == "11:"
    assert new["energy_per_atom_mean_sigma_meV"] == pytest.approx(new["energy_mean_sigma_meV"] / 9)


def test_energies_of_another_level_are_named_everywhere(tiny_model, tmp_path):
    calculator, found = RACECalculator(tiny_model), ethanols(n=8)
    for seed, atoms in enumerate(found):
        atoms.calc = SinglePointCalculator(atoms, energy=calculator.prediction(atoms).energy[0] + 0.01 * seed, forces=np.ones((9, 3)))
    write(tmp_path / "same.xyz", found)
    for atoms in found:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy() + 9 * 0.5, forces=np.ones((9, 3)))
    write(tmp_path / "other.xyz", found)
    result = run(tiny_model, tmp_path / "same.xyz", "--ood", tmp_path / "other.xyz", "--json", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "other.xyz: energies are off by about 504 meV per atom" in text and "same.xyz: energies" not in text
    levels = [section["reference_level"] for section in json.loads((tmp_path / "out.json").read_text())["data"]]
    assert [level["looks_like_another_level"] for level in levels] == [False, True]
    assert levels[1]["energy_rmse_without_offset_meV"] == pytest.approx(10 * np.std(range(8)), rel=1e-3)


def test_figures_say_which_energies_are_doubted(tiny_model, tmp_path):
    data = dataset_from_atoms(ethanols(n=8))
    data = replace(data, energy=data.energy + 1000.0)
    found = {"cold": assess(RACECalculator(tiny_model), None, data)}
    assert [doubted_name(name, one) for name, one in found.items()] == ["cold (other level?)"]
    energies = data.energy - found["cold"].raw.energy + 0.01 * np.arange(8)
    honest = {"cold": assess(RACECalculator(tiny_model), None, replace(data, energy=energies))}
    assert [doubted_name(name, one) for name, one in honest.items()] == ["cold"]


def test_an_npz_of_parts_needs_one(tiny_model, tmp_path):
    atoms = ethanols()
    arrays = {"R": [a.positions for a in atoms], "E": [a.get_potential_energy() for a in atoms], "F": [a.get_forces() for a in atoms]}
    np.savez(tmp_path / "rmd17.npz", Z=atoms[0].numbers, **{f"{key}_test": np.array(value) for key, value in arrays.items()})
    result = run(tiny_model, tmp_path / "rmd17.npz")
    assert result.exit_code == 1 and "rmd17.npz#test (3 frames)" in result.output and "#train" not in result.output
