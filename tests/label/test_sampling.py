"""Geometries by MD: as many as asked, warm, and the same ones whenever the work is stopped."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule

from race_calc.data.lock import RunningError
from race_calc.label import sampling
from race_calc.label.methods import Method
from race_calc.label.sampling import Plan, sample

METHOD = Method("own_methods:odd")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Processes of their own read the file anew: what they need of it is in the work."""
    monkeypatch.setattr(sampling, "CHAINS", 2)


def copper():
    return bulk("Cu", cubic=True).repeat((1, 1, 1))


def test_frames_are_shared_out(tmp_path):
    plan = Plan((300.0, 600.0), 7)
    found = sample([copper()], plan, METHOD, tmp_path / "j", 2)
    assert len(found) == 7
    assert [atoms.info["chain"] for atoms in found] == [0, 0, 1, 1, 2, 2, 3]
    assert [atoms.info["temperature"] for atoms in found] == [300, 300, 600, 600, 300, 300, 600]
    apart = [np.abs(a.positions - b.positions).max() for a in found for b in found if a is not b]
    assert min(apart) > 1e-3 and "momenta" not in found[0].arrays


@pytest.mark.nightly
def test_every_structure_is_heated_to_every_temperature(tmp_path):
    starts = [copper() for _ in range(3)]
    for k, atoms in enumerate(starts):
        atoms.symbols = ["Cu", "Ag", "Au"][k]
        atoms.arrays["REF_forces"] = np.zeros((4, 3))
        atoms.info["REF_energy"] = 1.0
    found = sample(starts, Plan((300.0, 600.0), 6), METHOD, tmp_path / "j", 2)
    assert {(str(atoms.symbols[0]), atoms.info["temperature"]) for atoms in found} == {
        (symbol, temperature) for symbol in ("Cu", "Ag", "Au") for temperature in (300.0, 600.0)
    }
    for atoms in found:  # labels of another geometry are no labels
        assert set(atoms.arrays) == {"numbers", "positions"} and set(atoms.info) == {"temperature", "chain"}


def test_two_at_once_are_refused(tmp_path):
    plan = Plan((300.0,), 2)

    def report(done: int, of_all: int) -> None:
        if done == 1:
            with pytest.raises(RunningError, match="works in"):
                sample([copper()], plan, METHOD, tmp_path / "j", 1)

    assert len(sample([copper()], plan, METHOD, tmp_path / "j", 1, report)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["j"]


def test_chains_write_into_folders_of_their_own(tmp_path):
    assert len(sample([copper()], Plan((300.0,), 2), Method("own_methods:writes"), tmp_path / "j", 2)) == 2


@pytest.mark.nightly
def test_stopped_work_goes_on_to_the_same_frames(tmp_path):
    plan = Plan((500.0,), 4, seed=3)
    whole = sample([copper()], plan, METHOD, tmp_path / "whole", 1)

    class StoppedError(Exception):
        pass

    def report(done: int, of_all: int) -> None:
        if done == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        sample([copper()], plan, METHOD, tmp_path / "parts", 2, report)
    again = sample([copper()], plan, METHOD, tmp_path / "parts", 2)
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)


@pytest.mark.nightly
def test_the_kinetic_energy_is_that_of_the_temperature(tmp_path):
    """Mean over frames of all chains: 12 atoms · 10 frames have a standard deviation of 7 %."""
    plan = Plan((900.0,), 10)
    atoms = bulk("Cu", cubic=True).repeat((3, 1, 1))
    sample([atoms], plan, METHOD, tmp_path / "j", 2)
    import json

    lines = [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()[1:]]
    kinetic = [float((np.array(line["momenta"]) ** 2 / (2 * atoms.get_masses()[:, None])).sum()) for line in lines]
    assert np.mean(kinetic) / (1.5 * units.kB * 900.0 * len(atoms)) == pytest.approx(1, abs=0.3)


def test_a_start_that_always_fails_ends_the_work(tmp_path):
    atoms = copper()
    atoms.positions[0, 0] = -1.0
    with pytest.raises(ValueError, match=r"MD at 300 K fails 5 times in frame 0 of chain 0 \(RuntimeError: did not converge\)"):
        sample([atoms], Plan((300.0,), 1), METHOD, tmp_path / "j", 1)
    assert not list(tmp_path.iterdir())  # nothing to go on with: another temperature may begin


def test_a_start_that_the_method_does_not_know_is_told_at_once(tmp_path):
    pytest.importorskip("tblite", reason="needs race_calc[xtb]")
    slab = molecule("H2O", vacuum=6.0)
    slab.pbc = [True, True, False]
    for start, told in ((slab, "periodic along some directions only"), (Atoms("U"), "H to Rn, not U")):
        with pytest.raises(ValueError, match=f"structure 1: gfn2-xtb .*{told}"):
            sample([molecule("H2O"), start], Plan((300.0,), 1), Method("gfn2-xtb"), tmp_path / "j", 1)
    assert not list(tmp_path.iterdir())


def test_starts_that_cannot_be_moved(tmp_path):
    with pytest.raises(ValueError, match="no structure to begin at"):
        sample([], Plan((300.0,), 1), METHOD, tmp_path / "j", 1)
    broken = molecule("H2O")
    broken.positions[0, 0] = np.nan
    with pytest.raises(ValueError, match="structure 1: positions of atom 0 are not finite"):
        sample([molecule("H2O"), broken], Plan((300.0,), 1), METHOD, tmp_path / "j", 1)


@pytest.mark.parametrize("temperatures, frames", [((), 3), ((0.0,), 3), ((float("nan"),), 3), ((300.0, 600.0), 1), ((300.0,), 0)])
def test_plans_that_are_none(temperatures, frames):
    with pytest.raises(ValueError, match=r"temperatures|fewer than one"):
        Plan(temperatures, frames)
