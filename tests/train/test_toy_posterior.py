"""A posterior that the package does not know: all of it is this file, and training, checkpoints and MD take it as their own.

Jitter is Gaussian noise around the best weights. Its width is how far the weights of one model moved from epoch to epoch,
root mean square for each weight, so it needs what it collected in all epochs, also in those before a run was interrupted.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from ase import units
from ase.md.verlet import VelocityVerlet
from small_run import frame, write_run

from race_calc import Criterion, RACECalculator, UncertaintyMonitor
from race_calc.posterior.base import Posterior, by_name, names, register, unregister
from race_calc.posterior.checkpoint import CheckpointError, load_checkpoint
from race_calc.posterior.given import Fitted
from race_calc.posterior.state import unflatten
from race_calc.train.config import ConfigError, load_config
from race_calc.train.files import STATE_FILE
from race_calc.train.finish import finish
from race_calc.train.fit import Request, fit_posterior
from race_calc.train.loop import train
from race_calc.train.prepare import prepare

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Moves:
    """Weights after the last epoch (D,), sum of the squared moves (D,), and their number ()."""

    last: torch.Tensor
    squares: torch.Tensor
    count: torch.Tensor


class Jitter(Posterior):
    name = "jitter"
    default_members = 3
    heads = ("energy", "joint")
    independent = False
    collection = Moves
    validation_use = "The best weights were chosen on these structures, and jitter around them was not checked on any."

    def check_training(self, epochs):
        if epochs < 2:
            raise ValueError("jitter looks at moves between epochs: write training.epochs: 2 or more")

    def empty_collection(self, weights):
        return Moves(weights[0].clone(), torch.zeros_like(weights[0]), torch.zeros((), dtype=torch.int64))

    def collect(self, collected, state, epoch, epochs):
        moved = state.weights[0] - collected.last
        return Moves(state.weights[0].clone(), collected.squares + moved.square(), collected.count + 1)

    def parameter_sets(self, trained, basis):
        moves, generator = trained.collected, torch.Generator().manual_seed(basis.seed)
        z = torch.randn(basis.members, len(moves.last), generator=generator)
        draws = trained.state.best + (moves.squares / moves.count).sqrt() * z
        return Fitted(unflatten(draws, basis.shapes), {"moves": int(moves.count), "seed": basis.seed})


@pytest.fixture(scope="module")
def jitter():
    register(Jitter())
    yield by_name("jitter")
    unregister("jitter")
    assert "jitter" not in names()


@pytest.fixture(scope="module")
def run(jitter, tmp_path_factory):
    """Configuration, data and the folder of a run that was interrupted in epoch 4 of 5, resumed and finished."""
    folder = tmp_path_factory.mktemp("jitter")
    config = load_config(write_run(folder, n=28, data__validation=20, posterior="jitter", members=4, training__epochs=5))
    prepared = prepare(config, folder)

    def stop(record):
        if record["kind"] == "step" and record["epoch"] == 4 and record["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, prepared, folder / "model", CPU, False, stop)
    trained = train(config, prepared, folder / "model", CPU, resume=True)
    finish(config, prepared, trained, folder / "model", CPU)
    return config, prepared, folder


def test_resumes_to_the_same_bits(run):
    config, prepared, folder = run
    whole = train(config, prepared, folder / "whole", CPU, resume=False)
    finish(config, prepared, whole, folder / "whole", CPU)
    assert int(whole.collected.count) == 5 and (whole.collected.squares > 0).any()
    for name in (STATE_FILE, "weights.safetensors"):
        assert (folder / "model" / name).read_bytes() == (folder / "whole" / name).read_bytes(), name


def test_saves_loads_and_says_what_it_is(run):
    folder = run[2]
    checkpoint = load_checkpoint(folder / "model")
    assert (checkpoint.posterior, checkpoint.members) == ("jitter", 4) and checkpoint.thresholds
    assert checkpoint.training["posterior"] == {"moves": 5, "seed": 3}
    card = (folder / "model" / "card.md").read_text()
    assert "# jitter, 4 members" in card and "not checked on any" in card and "moves 5" in card
    with pytest.raises(ValueError, match="draws around another one: take an mve or deep-ensemble model"):
        fit_posterior(checkpoint, Request("llpr", 4), folder, folder / "x", CPU)


def test_drives_md_and_the_monitor(run):
    atoms = frame(3)
    atoms.calc = RACECalculator(run[2] / "model")
    atoms.get_forces()
    results = atoms.calc.results
    assert results["energy_uncertainty_epistemic"] > 0 and results["bald_energy"] > 0
    assert np.linalg.eigvalsh(results["forces_covariance_epistemic"])[:, -1].max() > 0
    dynamics = VelocityVerlet(atoms, 1.0 * units.fs)
    monitor = UncertaintyMonitor(dynamics, [Criterion("energy_uncertainty_per_atom", 1e6, "halt")], flagged=None)
    dynamics.run(3)
    assert monitor.record.scores["energy_uncertainty_per_atom"] > 0 and dynamics.nsteps == 3


def test_configurations_know_it_while_it_is_registered(jitter, tmp_path):
    assert load_config(write_run(tmp_path, posterior="jitter", members=None)).members == 3
    for changes, part in (
        ({"model__head": "mse"}, "with posterior jitter write model.head: energy or joint, not mse"),
        ({"members": 1}, "posterior jitter needs several members: write 2 or more"),
        ({"training__epochs": 1}, "write training.epochs: 2 or more"),
        ({"posterior": "jiter"}, "posterior = 'jiter' is not allowed; allowed: mve, .*, jitter"),
    ):
        with pytest.raises(ConfigError, match=part):
            load_config(write_run(tmp_path, **{"posterior": "jitter", "members": 4} | changes))
    with pytest.raises(ValueError, match="already"):
        register(Jitter())


def test_nobody_knows_it_afterwards(run, jitter):
    unregister("jitter")
    try:
        with pytest.raises(CheckpointError, match="no posterior 'jitter': take one of mve"):
            load_checkpoint(run[2] / "model")
    finally:
        register(jitter)
