"""A trained model tells how far an atom is from those that it was trained on: stored, predicted, watched."""

import json
import shutil

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.data import covalent_radii
from ase.md.verlet import VelocityVerlet
from safetensors.torch import load_file, save_file
from small_run import frame, write_run

from race_calc import RACECalculator, UncertaintyMonitor
from race_calc.data.graph import collate, from_atoms
from race_calc.posterior.checkpoint import CheckpointError, load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.posterior.manifest import write_manifest
from race_calc.train import familiar
from race_calc.train.config import load_config
from race_calc.train.finish import finish
from race_calc.train.loop import train
from race_calc.train.prepare import prepare

CPU = torch.device("cpu")


def made(folder, **changes):
    config = load_config(write_run(folder, **{"n": 40, "data__validation": 20} | changes))
    prepared = prepare(config, folder)
    finish(config, prepared, train(config, prepared, folder / "model", CPU, False), folder / "model", CPU)
    return [example.graph for example in prepared.train]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("familiar")
    return made(folder), folder / "model"


def test_the_mean_square_over_the_training_is_below_one(run):
    graphs, model = run
    stack = load_stack(load_checkpoint(model), torch.float64, CPU)
    found = stack.predict(collate(graphs)).feature_distance
    assert 0.02 < np.mean(found**2) < 60 / 128  # 60 atoms span so many of the 128 directions


def test_what_is_stored_is_what_was_fitted(run):
    graphs, model = run
    checkpoint = load_checkpoint(model)
    again = familiar.feature_distance_of(load_stack(checkpoint, torch.float64, CPU), graphs)
    x = np.random.default_rng(0).normal(size=(5, again.mean.shape[1]))
    for z in (0, 1):
        np.testing.assert_allclose(checkpoint.feature_distance(x, np.full(5, z)), again(x, np.full(5, z)), rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"compile": False}, {"dtype": "float32"}, {"tables": False}])
def test_it_turns_with_nothing_and_does_not_depend_on_how_it_is_calculated(run, options):
    calculator, turned = RACECalculator(run[1], "cpu", **options), frame(50)
    turned.rotate(70, (1, 2, 3))
    reference = RACECalculator(run[1], "cpu").get_property("feature_distance", frame(50))
    np.testing.assert_allclose(calculator.get_property("feature_distance", turned), reference, rtol=2e-3)


def test_it_grows_where_the_training_has_nothing(run):
    calculator, distances = RACECalculator(run[1], "cpu"), []
    for stretch in (1.0, 1.15, 1.3):
        atoms = Atoms("Cu2Ag", positions=stretch * np.array([[0, 0, 0], [2.5, 0, 0], [1.2, 2.3, 0]]))
        distances.append(calculator.get_property("feature_distance", atoms).max())
    assert distances == sorted(distances) and distances[2] > 3 * distances[0]


def test_every_set_of_a_batch_is_told_as_alone(run):
    stack = load_stack(load_checkpoint(run[1]), torch.float64, CPU)
    graphs = [from_atoms(frame(seed), 4.0) for seed in (50, 51)]
    alone = np.concatenate([stack.predict(graph).feature_distance for graph in graphs])
    np.testing.assert_allclose(stack.predict(collate(graphs)).feature_distance, alone, rtol=1e-6)


def test_a_single_model_without_a_spread_is_watched_by_it(tmp_path):
    made(tmp_path, posterior="mve", members=None, model__head="mse")
    atoms = frame(50)
    atoms.calc = RACECalculator(tmp_path / "model", "cpu")
    monitor = UncertaintyMonitor(VelocityVerlet(atoms, units.fs), flagged=None)
    assert {criterion.name for criterion in monitor.criteria} == {"feature_distance_max", "distance_gap_max"}
    atoms.positions *= 0.8
    monitor.dynamics.run(1)
    assert "feature_distance_max" in {violation.criterion for violation in monitor.record.decision.violations}


def changed(model, tmp_path, key=None, value=None, tensor=None):
    """A copy of the model with another configuration or another tensor, and a manifest that fits."""
    folder = tmp_path / "changed"
    folder.mkdir()
    for name in ("config.json", "weights.safetensors", "card.md"):
        (folder / name).write_bytes((model / name).read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | ({key: value} if key else {})))
    if tensor:
        tensors = load_file(folder / "weights.safetensors")
        save_file(tensors | {"feature_distance.mean": tensor(tensors["feature_distance.mean"])}, folder / "weights.safetensors")
    write_manifest(folder)
    return folder


def test_folders_that_do_not_fit_are_refused(run, tmp_path):
    for number, (change, match) in enumerate(
        [
            (dict(key="feature_distance", value="yes"), "feature_distance is 'yes': true or false"),
            (dict(key="feature_distance", value=False), "2 tensors too many, first feature_distance"),
            (dict(tensor=lambda x: x[:1]), "feature_distance.mean has shape"),
            (dict(tensor=lambda x: x * np.nan), "not finite"),
        ]
    ):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(CheckpointError, match=match):
            load_checkpoint(changed(run[1], tmp_path / str(number), **change))


def test_distances_are_known_after_training(run, tmp_path):
    """Stored with the model, told by the calculator, of the training structures only."""
    checkpoint = load_checkpoint(run[1])
    calculator = RACECalculator(run[1], "cpu")
    trained = [frame(seed) for seed in range(40)]
    gaps = np.array([calculator.get_property("distance_gap", atoms).max() for atoms in trained])
    assert (gaps < 2e-4).sum() >= 20 and gaps.max() > 1e-3  # twenty trained on, twenty that only validate
    squeezed = frame(0)
    squeezed.positions *= 0.8
    gaps = calculator.get_property("distance_gap", squeezed)
    assert gaps.shape == (3,) and gaps.max() > 0.02
    assert checkpoint.known_distances is not None and checkpoint.known_distances.cutoff == 4.0

    folder = tmp_path / "damaged"
    shutil.copytree(run[1], folder)
    config = json.loads((folder / "config.json").read_text())
    config["known_distances"]["pairs"]["29-47"]["intervals"] = [[3.0, 2.0]]
    (folder / "config.json").write_text(json.dumps(config))
    write_manifest(folder)
    with pytest.raises(CheckpointError, match="known distances of 29-47 are no ascending intervals"):
        load_checkpoint(folder)


def test_environments_are_known_after_training(run, tmp_path):
    """Stored with the model; the training has none that are unknown."""
    graphs, model = run
    known = load_checkpoint(model).environments
    assert known is not None and known.cutoff == 4.0 and not any(known.compare(graph, covalent_radii).unknown for graph in graphs)
    squeezed = frame(0)
    squeezed.positions *= 0.8
    assert known.compare(from_atoms(squeezed, 4.0), covalent_radii).unknown

    folder = tmp_path / "damaged"
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["environments"]["distance"]["29-47"] = "0 -1"
    (folder / "config.json").write_text(json.dumps(config))
    write_manifest(folder)
    with pytest.raises(CheckpointError, match="distance histogram of 29-47 is no row of counts"):
        load_checkpoint(folder)
