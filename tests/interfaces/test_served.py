"""A model served to engines: batches, the halt, and members shared among ranks (here: threads that exchange as MPI does)."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones

from race_calc import Criterion, RACECalculator
from race_calc.interfaces.served import Served
from race_calc.model.baseline import baseline_of, record
from race_calc.posterior import shared
from race_calc.posterior.checkpoint import load_checkpoint, save_checkpoint
from race_calc.posterior.shared import SharedMembers
from race_calc.uncertainty.scores import score

TRUNK = "models/3bpa-llpr"


class Ranks:
    """What ranks of one communicator have in common."""

    def __init__(self, size):
        self.size, self.barrier, self.place = size, Barrier(size), [None] * size


class Comm:
    """A communicator of mpi4py, as far as it is used."""

    def __init__(self, ranks, rank):
        self.ranks, self.rank, self.size = ranks, rank, ranks.size

    def bcast(self, value, root):
        self.ranks.place[self.rank] = value
        self.ranks.barrier.wait()
        found = self.ranks.place[root]
        self.ranks.barrier.wait()
        return found

    def Allreduce(self, in_place, buffer):
        self.ranks.place[self.rank] = buffer.copy()
        self.ranks.barrier.wait()
        total = np.sum(self.ranks.place, axis=0)
        self.ranks.barrier.wait()
        buffer[:] = total


@pytest.fixture(autouse=True)
def no_mpi(monkeypatch):
    monkeypatch.setattr(shared, "_in_place", lambda: None)


def ethanol(seed=0):
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=seed)
    return atoms


def same(found, expected, tolerance=0.0):
    for name in ("energy", "forces", "energies", "stress", "forces_covariance", "energy_uncertainty", "bald_forces", "feature_distance"):
        one, other = getattr(found, name), getattr(expected, name)
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max(), err_msg=name)


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_share_the_members(tiny_model, size):
    """Every rank has the prediction of one process; of three ranks one has no member."""
    ranks = Ranks(size)
    expected = [RACECalculator(tiny_model, "cpu").prediction(ethanol(seed)) for seed in range(2)]

    def run(rank):
        torch.set_num_threads(1)
        served = Served(tiny_model, Comm(ranks, rank), device="cpu")
        assert isinstance(served.calculator.posterior, SharedMembers)
        return [served.evaluate(ethanol(seed)) for seed in range(2)]

    with ThreadPoolExecutor(size) as pool:
        for found in pool.map(run, range(size)):
            for one, other in zip(found, expected):
                same(one, other, 1e-12)


def test_a_crystal_has_its_stress(tiny_model):
    ranks, atoms = Ranks(2), bulk("C", cubic=True)
    atoms.rattle(0.05, seed=1)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda rank: Served(tiny_model, Comm(ranks, rank), device="cpu").evaluate(atoms), range(2)))
    same(found[1], RACECalculator(tiny_model, "cpu").prediction(atoms), 1e-12)
    assert found[0].stress is not None


def test_several_structures_at_once():
    served = Served(TRUNK, device="cpu")
    structures = [ethanol(0), molecule("H2O"), ethanol(3)]
    together = served.evaluate(structures)
    assert together.calibrated
    for k, atoms in enumerate(structures):
        alone = served.evaluate(atoms)
        np.testing.assert_allclose(together.energy[k], alone.energy[0], rtol=1e-12)
        np.testing.assert_allclose(together.energy_uncertainty[k], alone.energy_uncertainty[0], rtol=1e-7)
    np.testing.assert_allclose(together.forces_covariance[9:12], served.evaluate(structures[1]).forces_covariance, rtol=1e-7, atol=1e-12)


def test_an_external_baseline_is_handed_in_once(tiny_model, tmp_path):
    """Ranks add it to the members, which know nothing of it; a charged structure is refused in a list, too."""
    checkpoint = load_checkpoint(tiny_model)
    config = checkpoint.model.plan.config.model_copy(update={"baseline": "external"})
    atoms = ethanol()
    pair = LennardJones(epsilon=0.01, sigma=1.0, rc=3.0)
    baseline = record("external", baseline_of("external", config.cutoff, pair), [atoms])
    model = replace(checkpoint.model, plan=replace(checkpoint.model.plan, config=config))
    save_checkpoint(tmp_path / "external", replace(checkpoint, model=model, baseline=baseline), "# card\n")
    expected, ranks = RACECalculator(tmp_path / "external", "cpu", baseline=pair).prediction(atoms), Ranks(2)

    def run(rank):
        return Served(tmp_path / "external", Comm(ranks, rank), device="cpu", baseline=pair).evaluate(atoms)

    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(run, range(2)):
            same(found, expected, 1e-12)
    charged = atoms.copy()
    charged.set_initial_charges([1.0] + [0.0] * (len(atoms) - 1))
    served = Served(tmp_path / "external", device="cpu", baseline=pair)
    for structures in (charged, [atoms, charged]):
        with pytest.raises(ValueError, match="charge"):
            served.evaluate(structures)


def test_ranks_that_have_nothing_to_do_are_named(tiny_model):
    with pytest.warns(UserWarning, match="3 ranks share 2 members: 1 of them are idle"):
        Served(tiny_model, Comm(Ranks(3), 0), device="cpu")
    with pytest.warns(UserWarning, match="not divided among ranks"):
        Served(TRUNK, Comm(Ranks(2), 0), device="cpu")


def test_no_structures():
    with pytest.raises(ValueError, match="no structures: give at least one"):
        Served(TRUNK, device="cpu").evaluate([])


def test_a_trunk_is_not_divided():
    served = Served(TRUNK, Comm(Ranks(2), 1), device="cpu")
    assert not isinstance(served.calculator.posterior, SharedMembers)
    same(served.evaluate(ethanol()), RACECalculator(TRUNK, "cpu").prediction(ethanol()))


def test_the_halt_is_that_of_the_monitor():
    served = Served(
        TRUNK, device="cpu", criteria=[Criterion("forces_uncertainty_max", 1e9), Criterion("energy_uncertainty_per_atom", 0.0, "halt", 2)]
    )
    atoms = ethanol()
    prediction = served.evaluate(atoms)
    assert served.halted(prediction, atoms, 0) is None  # the second in a row
    assert served.scores(prediction, atoms)["forces_uncertainty_max"] == score(prediction, "forces_uncertainty_max")[0]
    violation = served.halted(prediction, atoms, 1)
    assert violation.criterion == "energy_uncertainty_per_atom" and violation.step == 1 and violation.in_a_row == 2
    default = Served(TRUNK, device="cpu")
    assert default.halted(default.evaluate(atoms), atoms, 0) == default.watch.decision.halting
    assert len(default.watch.criteria) > 4 and all(isinstance(c.threshold, float) for c in default.watch.criteria)
    stretched = ethanol()
    stretched.positions[0] += 1.0
    assert default.halted(default.evaluate(stretched), stretched, 1) is not None
