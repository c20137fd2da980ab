"""A RACE model that learns on the fly: lessons, calibration, thresholds; killed and called again."""

import json
import os

import numpy as np
import pytest
import yaml
from ase import units
from ase.calculators.emt import EMT
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.langevinbaoab import LangevinBAOAB
from small_run import frame, write_run
from typer.testing import CliRunner

from race_calc import OnTheFly, RACECalculator, RACELearner, read_log
from race_calc.cli import app
from race_calc.data.hashes import geometry_hash
from race_calc.learning import continual, on_the_fly
from race_calc.learning.budget import Budget
from race_calc.learning.choice import chosen
from race_calc.learning.config import ExplorationConfig, load_learning
from race_calc.learning.exploration import replicas, temperature_at
from race_calc.report.learning import learning_figure
from race_calc.train.config import ConfigError
from race_calc.uncertainty.scores import LEAST_GAP


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A folder with data and a model that knows little."""
    folder = tmp_path_factory.mktemp("first")
    path = write_run(folder, training__epochs=20)
    done = CliRunner().invoke(app, ["train", str(path), "--out", str(folder / "model")])
    assert done.exit_code == 0, done.output
    write(folder / "new.xyz", [frame(seed) for seed in range(100, 120)])
    write(folder / "many.xyz", [frame(seed) for seed in range(200, 320)])
    return folder


def test_a_lesson_and_the_same_again(first, tmp_path):
    learner = RACELearner(first / "model", first, epochs=3)
    assert len(learner.known(None)) == 8 + 4
    lesson = learner.learn([first / "new.xyz"], None, tmp_path / "one")
    assert np.isfinite([lesson.before, lesson.after]).all() and any(
        "8 structures are held back, 20 are the fewest" in note for note in lesson.notes
    )
    written = (tmp_path / "one" / "weights.safetensors").read_bytes()
    assert learner.learn([first / "new.xyz"], None, tmp_path / "one") == lesson
    assert (tmp_path / "one" / "weights.safetensors").read_bytes() == written
    assert len(learner.known(tmp_path / "one")) == 12 + 20

    second = learner.learn([first / "new.xyz", first / "many.xyz"], tmp_path / "one", tmp_path / "two")
    assert len(learner.known(tmp_path / "two")) == 12 + 20 + 120 and not any("fewest" in note for note in second.notes)
    potential = learner.potential(tmp_path / "two")
    assert potential.calibration is not None
    assert potential.thresholds == RACECalculator(tmp_path / "two").thresholds != {}  # what a user of the folder finds


def test_the_choice_is_by_features_and_takes_no_near_duplicates(first):
    potential = RACECalculator(first / "model")
    known, new = [frame(seed) for seed in range(3)], [frame(seed) for seed in range(40, 45)]
    near = []
    for atoms in new:
        near.append(atoms.copy())
        near[-1].rattle(1e-4, seed=1)
    found = chosen(potential, [*new, *near, *known], known, {geometry_hash(atoms) for atoms in known}, 5)
    assert len(found) == 5
    taken = {min(range(5), key=lambda k: np.abs(new[k].positions - atoms.positions).max()) for atoms in found}
    assert taken == set(range(5))  # one of each pair
    assert len(chosen(potential, new, known, set(), 20)) == 5 and chosen(potential, known, known, {*map(geometry_hash, known)}, 5) == []


def test_what_is_held_back_before_and_after(first, tmp_path):
    """Both errors are of the same structures: the validation of the first training and the held-back fifth of the new ones."""
    learner = RACELearner(first / "model", first, epochs=3)
    lesson = learner.learn([first / "new.xyz"], None, tmp_path / "one")
    held = [atoms for part in ("validation", "calibration") for atoms in read(tmp_path / "one" / "data" / f"{part}.xyz", ":")]
    assert len(held) == 4 + 4
    for folder, told in ((first / "model", lesson.before), (tmp_path / "one", lesson.after)):
        calculator = RACECalculator(folder, calibrated=False)
        differences = [calculator.get_property("forces", atoms) - atoms.get_forces() for atoms in held]
        assert np.sqrt(np.mean(np.square(differences))) == pytest.approx(told, rel=1e-6)


def test_a_training_that_was_killed_goes_on(first, tmp_path):
    def dies(record):
        if record["kind"] == "epoch" and record["epoch"] == 2:
            raise KeyboardInterrupt

    whole = RACELearner(first / "model", first, epochs=4).learn([first / "new.xyz"], None, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        RACELearner(first / "model", first, epochs=4, report=dies).learn([first / "new.xyz"], None, tmp_path / "parts")
    lesson = RACELearner(first / "model", first, epochs=4).learn([first / "new.xyz"], None, tmp_path / "parts")
    assert (lesson.before, lesson.after) == (whole.before, whole.after)
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_few_structures_give_thresholds_too(first):
    bare, learned = RACECalculator(first / "model"), RACELearner(first / "model", first).potential(None)
    assert bare.thresholds == {} and learned.thresholds["forces_uncertainty_max_epistemic"] > 0
    scores = [learned.prediction(frame(seed)).forces_covariance_epistemic for seed in range(8, 12)]  # the validation structures
    largest = max(np.sqrt(np.linalg.eigvalsh(values).max()) for values in scores)
    assert learned.thresholds["forces_uncertainty_max_epistemic"] == pytest.approx(continual.FEW * largest, rel=1e-6)
    assert learned.thresholds["distance_gap_max"] >= LEAST_GAP


def moving(seed=0, kelvin=300):
    atoms = frame(3)
    atoms.calc = None
    random = np.random.default_rng(seed)
    atoms.set_momenta(np.sqrt(atoms.get_masses() * units.kB * kelvin)[:, None] * random.standard_normal((3, 3)))
    return Langevin(atoms, 2 * units.fs, temperature_K=kelvin, friction=0.02 / units.fs, fixcm=False, rng=random)


def test_a_run_that_learns(first, tmp_path, monkeypatch):
    monkeypatch.setattr(on_the_fly, "TURN", 50)
    monkeypatch.setattr(continual, "FEW", 0.5)
    learner = RACELearner(first / "model", first, epochs=2)
    run = OnTheFly([moving(0, 900), moving(1, 900)], EMT(), learner, tmp_path / "run", budget=Budget(rounds=2))
    done = run.run(400)
    rounds = [line for line in run.history if line["event"] == "round"]
    assert rounds and done.labels > 1 and all(np.isfinite([line["before"], line["after"]]).all() for line in rounds)
    logs = [read_log(tmp_path / "run" / f"monitor-{k}.jsonl") for k in (0, 1)]
    learning_figure(logs, run.history, 2.0).savefig(tmp_path / "figure.png")


@pytest.mark.nightly
def test_a_crystal_that_learns_at_constant_pressure_and_is_killed(tmp_path, monkeypatch):
    """Stresses are learned, and the limit of the pressure is that of the run that was not killed."""
    monkeypatch.setattr(on_the_fly, "TURN", 20)
    monkeypatch.setattr(continual, "FEW", 0.5)
    path = write_run(tmp_path, periodic=True, training__epochs=10)
    done = CliRunner().invoke(app, ["train", str(path), "--out", str(tmp_path / "model")])
    assert done.exit_code == 0, done.output
    learner = RACELearner(tmp_path / "model", tmp_path, epochs=2)

    def made():
        dynamics = moving(0, 600)
        atoms, random = dynamics.atoms, dynamics.rng
        atoms.pbc, atoms.calc = True, learner.potential(None)
        fs = units.fs
        options = {"externalstress": 0.0, "T_tau": 50 * fs, "P_tau": 500 * fs, "P_mass": 1e4, "rng": random}
        return LangevinBAOAB(atoms, fs, temperature_K=600, **options)

    budget = Budget(rounds=1)
    whole = OnTheFly(made(), EMT(), learner, tmp_path / "whole", budget=budget)
    whole.run(100)
    for steps in (20, 40, 60, 100):  # a new process each
        parts = OnTheFly(made(), EMT(), learner, tmp_path / "parts", budget=budget)
        parts.run(steps)
    np.testing.assert_array_equal(parts._dynamics[0].atoms.cell.array, whole._dynamics[0].atoms.cell.array)
    assert [line["event"] for line in parts.history] == [line["event"] for line in whole.history]
    labelled = list((tmp_path / "whole" / "rounds").glob("*/labelled.xyz"))
    assert labelled and all("stress" in atoms.calc.results for path in labelled for atoms in read(path, ":"))


def test_a_replica_without_a_log_spoils_no_end(first, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "begin.xyz", [frame(3)])
    (tmp_path / "own_emt2.py").write_text(OWN)
    content = {"model": str(first / "model"), "data": str(first), "reference": "own_emt2:emt", "structures": "begin.xyz"}
    content |= {"exploration": {"replicas": 2, "temperatures": [300]}, "budget": {"minutes": 1e-9}}
    (tmp_path / "learn.yaml").write_text(yaml.safe_dump(content))
    done = CliRunner().invoke(app, ["learn", "learn.yaml", "--out", "run"])
    assert done.exit_code == 0 and "minutes is used up" in done.output and "No figure" in done.output, done.output
    content["exploration"]["temperatures"] = [-300]
    (tmp_path / "learn.yaml").write_text(yaml.safe_dump(content))
    done = CliRunner().invoke(app, ["learn", "learn.yaml", "--out", "run"])
    assert done.exit_code == 1 and "temperatures" in done.output


OWN = "from ase.calculators.emt import EMT\n\ndef emt():\n    return EMT()\n"


def test_the_command(first, tmp_path, monkeypatch):
    monkeypatch.setattr(on_the_fly, "TURN", 50)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_emt.py").write_text(OWN)
    write(tmp_path / "begin.xyz", [frame(3)])
    relative = os.path.relpath(first, tmp_path)
    content = {"model": f"{relative}/model", "data": relative, "reference": "own_emt:emt", "structures": "begin.xyz", "epochs": 2}
    content["exploration"] = {"replicas": 2, "picoseconds": 0.3, "temperatures": [300, 1200], "timestep": 2.0}
    content |= {"labels_a_round": 3, "budget": {"rounds": 1}}
    (tmp_path / "learn.yaml").write_text(yaml.safe_dump(content))
    done = CliRunner().invoke(app, ["learn", "learn.yaml", "--out", "run"])
    assert done.exit_code == 0, done.output
    assert "The end:" in done.output and "Figure: run/learning.png" in done.output and "Rounds" in done.output
    again = CliRunner().invoke(app, ["learn", "learn.yaml", "--out", "run"])
    assert again.exit_code == 0 and "The end:" in again.output
    state = json.loads((tmp_path / "run" / "learning.json").read_text())
    assert state["number"] >= 1 and len(state["replicas"]) == 2

    content |= {"budget": {"labels": 0}, "structurs": "x", "exploration": {"temperatures": []}}
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="budget.labels = 0 is not allowed") as error:
        load_learning(tmp_path / "bad.yaml")
    assert "did you mean structures" in str(error.value) and "exploration.temperatures" in str(error.value)


def test_the_ramp():
    config = ExplorationConfig(picoseconds=1.0, temperatures=[300.0, 600.0], timestep=0.5, replicas=3)
    assert config.steps == 2000 and config.quiet_steps is None
    assert [temperature_at(step, config) for step in (0, 500, 1000, 2000)] == [300, 450, 600, 600]
    made = replicas([frame(0), frame(1)], config)
    np.testing.assert_array_equal(made[0].atoms.positions, made[2].atoms.positions)
    assert not np.allclose(made[0].atoms.get_momenta(), made[2].atoms.get_momenta())
