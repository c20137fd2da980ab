"""A configuration for new data: it is valid, it fits them, and it trains."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from small_run import frame, write_run
from typer.testing import CliRunner

from race_calc.cli import app
from race_calc.data.dataset import read_dataset
from race_calc.train.config import parse_config
from race_calc.train.propose import facts_of, propose, text_of


def labelled(path, atoms, count):
    frames = []
    for seed in range(count):
        one = atoms.copy()
        one.rattle(0.05, seed=seed)
        one.calc = EMT()
        one.get_forces()
        if one.pbc.all():
            one.get_stress()
        frames.append(one)
    write(path, frames, format="extxyz")
    return path


def test_molecules_and_crystals(tmp_path):
    crystal = facts_of(read_dataset(labelled(tmp_path / "cu.xyz", bulk("Cu", cubic=True), 40)))
    assert (crystal.structures, crystal.atoms, crystal.elements, crystal.periodic, crystal.stress) == (40, (4, 4.0, 4), ("Cu",), True, True)
    water = facts_of(read_dataset(labelled(tmp_path / "water.xyz", molecule("H2O"), 30)))
    assert not water.periodic and not water.stress and water.alike == 30
    one, other = propose(crystal), propose(water)
    assert (one.head, one.layers, other.head, other.layers) == ("joint-stress", 2, "joint", 3)
    assert one.batch_size == other.batch_size == 16 and other.validation_from == "last"
    for facts, chosen, name in ((crystal, one, "cu.xyz"), (water, other, "water.xyz")):
        config = parse_config(yaml.safe_load(text_of(facts, chosen, name)))
        assert config.data.train == name and config.members == 10 and config.model.head == chosen.head


def test_more_data_take_fewer_epochs_and_larger_ones_smaller_batches(tmp_path):
    from dataclasses import replace

    facts = facts_of(read_dataset(labelled(tmp_path / "cu.xyz", bulk("Cu", cubic=True), 20)))
    many = propose(replace(facts, structures=20_000, alike=5))
    assert (many.epochs, many.members, many.validation, many.validation_from) == (20, 5, 200, "random")
    assert propose(replace(facts, atoms=(64, 64.0, 64))).batch_size == 2
    with pytest.raises(ValueError, match="at least 10"):
        propose(replace(facts, structures=9))


def test_labels_under_one_other_name_are_found_and_told(tmp_path, monkeypatch):
    """Trained on such a file, a model is evaluated and calibrated on such files."""
    monkeypatch.chdir(tmp_path)
    for name, seeds in (("ref.xyz", range(30)), ("held.xyz", range(40, 65))):
        frames = [frame(seed) for seed in seeds]
        for atoms in frames:
            atoms.info["REF_energy"], atoms.arrays["REF_forces"] = atoms.get_potential_energy(), atoms.get_forces()
            atoms.calc = None
        write(name, frames)
    done = CliRunner().invoke(app, ["init", "ref.xyz", "--no-measure"])
    assert done.exit_code == 0, done.output
    config = parse_config(yaml.safe_load(Path("train.yaml").read_text()))
    assert (config.data.keys.energy, config.data.keys.forces, config.data.keys.stress) == ("REF_energy", "REF_forces", "stress")
    path = write_run(tmp_path, data__keys={"energy": "REF_energy", "forces": "REF_forces"}, data__train="ref.xyz", training__epochs=1)
    write("more.xyz", [frame(seed) for seed in range(70, 80)])
    for command in (["train", path, "--out", "m"], ["calibrate", "m", "held.xyz"], ["evaluate", "m", "held.xyz", "--ood", "more.xyz"]):
        done = CliRunner().invoke(app, [*map(str, command)])
        assert done.exit_code == 0, done.output


def test_the_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labelled("water.xyz", molecule("H2O"), 30)
    done = CliRunner().invoke(app, ["init", "water.xyz", "--out", "sub/train.yaml"])
    assert done.exit_code == 0 and ("minutes on the CPU" in done.output or "hours on the CPU" in done.output), done.output
    assert yaml.safe_load(Path("sub/train.yaml").read_text())["data"]["train"] == "../water.xyz"
    text = Path("sub/train.yaml").read_text()
    assert "# some 800 steps" in text and "# structures, some 48 atoms" in text  # 400 epochs of two batches, 16 molecules of 3 atoms
    again = CliRunner().invoke(app, ["init", "water.xyz", "--out", "sub/train.yaml"])
    assert again.exit_code == 1 and "is there already" in again.output
    for kind in ("train", "learn"):
        schema = json.loads(CliRunner().invoke(app, ["schema", kind]).output)
        assert schema["type"] == "object" and "properties" in schema
    assert CliRunner().invoke(app, ["schema", "other"]).exit_code == 1


def test_isolated_atoms_in_the_file_are_used_and_names_that_yaml_reads_otherwise_are_quoted(tmp_path):
    path = labelled(tmp_path / "run #3: x.xyz", bulk("Cu", cubic=True), 20)
    atom = bulk("Cu", cubic=True)[:1]
    atom.calc = SinglePointCalculator(atom, energy=-1.0, forces=np.zeros((1, 3)))
    write(path, atom, format="extxyz", append=True)
    facts = facts_of(read_dataset(path))
    config = parse_config(yaml.safe_load(text_of(facts, propose(facts), path.name)))
    assert facts.isolated and config.data.train == config.data.isolated_atoms == path.name
