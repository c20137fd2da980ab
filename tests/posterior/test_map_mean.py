"""The means of one set, the MAP, with the spread of the draws around it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk
from safetensors.torch import load_file, save_file

from race_calc.data.graph import collate, from_atoms
from race_calc.data.references import References
from race_calc.model.config import ModelConfig
from race_calc.model.parameters import initialise
from race_calc.model.plan import make_plan
from race_calc.model.race import Race
from race_calc.posterior.base import by_name
from race_calc.posterior.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from race_calc.posterior.given import Noise
from race_calc.posterior.load import load_stack
from race_calc.posterior.manifest import write_manifest
from race_calc.posterior.means import means_of

CPU = torch.device("cpu")
MEANS, SPREADS = (
    ("energy", "energies", "forces", "stress"),
    (
        "energy_epistemic",
        "energy_aleatoric",
        "forces_covariance_epistemic",
        "forces_covariance_aleatoric",
        "stress_covariance_epistemic",
        "bald_energy",
        "bald_forces",
        "energies_members",
        "forces_members",
    ),
)


def laplace() -> Checkpoint:
    config = ModelConfig(hidden_irreps="4x0e+4x1o", l_max=1, layers=2, features_dim=4, radial_hidden=(8,), cutoff=3.0, head="mse")
    plan = make_plan(config, 1)
    one = initialise(plan, [1], {})
    generator = torch.Generator().manual_seed(2)
    draws = {name: value + 0.1 * torch.randn(3, *value.shape[1:], generator=generator, dtype=value.dtype) for name, value in one.items()}
    references = References((6,), (-1.0,), 0.1, 2.0)
    return Checkpoint(Race(plan, (6,), 2.0, 8.0), references, draws, "laplace", noise=Noise(0.01, 0.02), center=one)


def predict(checkpoint, **options):
    atoms = bulk("C", a=3.6, cubic=True)
    atoms.rattle(0.1, seed=4)
    return load_stack(checkpoint, torch.float64, CPU, **options).predict(collate([from_atoms(atoms, 3.0), from_atoms(bulk("C"), 3.0)]))


def close(found, expected, names):
    for name in names:
        value = getattr(expected, name)
        assert value is not None, name
        np.testing.assert_allclose(getattr(found, name), value, rtol=0, atol=1e-12 * np.abs(value).max(), err_msg=name)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("compile", [None, False])
def test_means_are_those_of_the_map_and_the_spread_is_that_of_the_draws(compile, threads):
    checkpoint, before = laplace(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = predict(checkpoint, compile=compile)
        one = predict(replace(checkpoint, posterior="mve", parameters=checkpoint.center, center=None), compile=compile)
        draws = predict(replace(checkpoint, center=None), compile=compile)
    finally:
        torch.set_num_threads(before)
    close(found, one, MEANS)
    close(found, draws, SPREADS)
    assert found.n_members == found.independent_members("energy") == 3
    assert np.abs(found.forces - draws.forces).max() > 1e-3 and abs(found.energy - draws.energy).max() > 1e-3


def test_covariances_are_about_the_mean_of_the_draws():
    found = predict(laplace())
    spread = found.forces_members - found.forces_members.mean(0)
    np.testing.assert_allclose(found.forces_covariance_epistemic, np.einsum("mni,mnj->nij", spread, spread) / 3, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.energy_epistemic, found.energies_members.var(0), rtol=1e-9)


def test_round_trip_is_bitwise(tmp_path):
    first = replace(laplace(), center={name: value.float() for name, value in laplace().center.items()})
    save_checkpoint(tmp_path, first, "")
    second = load_checkpoint(tmp_path)
    assert second.members == 3 and list(second.parameters) == list(first.parameters) and list(second.center) == list(first.center)
    for name, value in first.center.items():
        assert second.center[name].dtype == torch.float32 and torch.equal(second.center[name], value), name
        assert torch.equal(second.parameters[name], first.parameters[name]), name
    for name in MEANS + SPREADS:
        assert np.array_equal(getattr(predict(first), name), getattr(predict(second), name)), name
    save_checkpoint(tmp_path, replace(first, center=None), "")
    assert load_checkpoint(tmp_path).center is None


def test_a_damaged_map_is_refused(tmp_path):
    save_checkpoint(tmp_path, laplace(), "")
    weights = load_file(tmp_path / "weights.safetensors")
    without = {name: value for name, value in weights.items() if name != "map.embedding"}
    infinite = weights | {"map.embedding": weights["map.embedding"] / 0}
    double = weights | {"map.embedding": weights["map.embedding"].repeat(2, 1, 1)}
    for tensors, message in ((without, "lacks 1 tensors"), (infinite, "map.embedding holds numbers"), (double, "map.embedding has shape")):
        save_file(tensors, tmp_path / "weights.safetensors")
        write_manifest(tmp_path)
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "posterior, mean, message",
    [
        ("laplace", "mode", "posterior.mean is 'mode': laplace has map or draws"),
        ("laplace", ["map"], "laplace has map or draws"),
        ("deep-ensemble", "map", "deep-ensemble has no choice of it"),
    ],
)
def test_a_mean_that_is_not_one_is_refused(tmp_path, posterior, mean, message):
    save_checkpoint(tmp_path, laplace(), "")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["posterior"] == {"name": "laplace", "members": 3, "mean": "map"}
    (tmp_path / "config.json").write_text(json.dumps(config | {"posterior": {"name": posterior, "members": 3, "mean": mean}}))
    write_manifest(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)


def test_the_map_is_one_set_more_and_no_member_of_a_shared_trunk():
    with pytest.raises(ValueError, match="share nothing"):
        load_stack(laplace(), torch.float64, CPU, forces_epistemic=False)
    stack = load_stack(laplace(), torch.float64, CPU)
    assert stack.members == 3 and by_name("laplace").means[0] == "map"


@pytest.mark.parametrize("compile", [None, False])
def test_means_alone_need_the_map_alone(compile):
    """For the steps between the checks of a monitor."""
    checkpoint = laplace()
    stack = load_stack(checkpoint, torch.float64, CPU, compile)
    means = means_of(checkpoint, stack, compile, True)
    assert means.members == 1 and len(means.parameters["embedding"]) == 1
    graph = from_atoms(bulk("C", a=3.6, cubic=True), 3.0)
    close(means.predict(graph), stack.predict(graph), MEANS)
    assert means_of(replace(checkpoint, center=None), stack, compile, True) is None  # the mean of the draws needs each
