"""The loop: halts, goes back, buys labels, learns, goes on; and goes on after a kill as if nothing had been."""

import json

import numpy as np
import pytest
from ase import units
from ase.io import read
from spring_learner import START, WATER, K, Members, Spring, Teacher, hot_water

from race_calc import Criterion
from race_calc.label.file import label_frames
from race_calc.label.given import Given
from race_calc.learning import on_the_fly
from race_calc.learning.budget import Budget
from race_calc.learning.learner import Lesson
from race_calc.learning.on_the_fly import OnTheFly


@pytest.fixture(autouse=True)
def short_turns(monkeypatch):
    monkeypatch.setattr(on_the_fly, "TURN", 60)


def learning(folder, **kwargs):
    dynamics = kwargs.pop("dynamics", None) or hot_water()
    return OnTheFly(dynamics, kwargs.pop("reference", Spring()), kwargs.pop("learner", Teacher()), folder, **kwargs)


def test_a_run_learns_until_it_knows(tmp_path):
    run = learning(tmp_path / "run", labels_a_round=4)
    done = run.run(600)
    assert done.reason == "every replica has made 600 steps" and done.steps == (600,)
    rounds = [line for line in run.history if line["event"] == "round"]
    halts = [line for line in run.history if line["event"] == "halt"]
    assert len(rounds) == done.rounds >= 2 and len(halts) >= len(rounds)
    assert all(halt["back_to"] <= halt["step"] for halt in halts)
    assert done.labels == 1 + sum(line["labels"] for line in rounds) <= 1 + 4 * done.rounds
    assert done.potential.reach > START and done.folder is not None
    labelled = [atoms for path in sorted((tmp_path / "run" / "rounds").glob("*/labelled.xyz")) for atoms in read(path, ":")]
    assert len(labelled) == done.labels - 1
    for atoms in labelled:
        np.testing.assert_allclose(atoms.get_forces(), K * (WATER.positions - atoms.positions), atol=1e-7)
        assert atoms.info["labels"] == "Spring"


def test_without_need_nothing_is_bought(tmp_path):
    run = learning(tmp_path, dynamics=hot_water(temperature=1.0))
    run._dynamics[0].atoms.set_momenta(np.zeros((3, 3)))
    done = run.run(200, quiet=100)
    assert done.reason == "no label was asked for in 120 steps" and done.labels == 1 and done.rounds == 0 and done.folder is None


def test_replicas_in_turn_share_what_is_learned(tmp_path):
    run = learning(tmp_path, dynamics=[hot_water(seed) for seed in range(3)], labels_a_round=6)
    done = run.run(300)
    assert done.steps == (300, 300, 300)
    assert {line["replica"] for line in run.history if line["event"] == "halt"} == {0, 1, 2}
    assert len({id(dynamics.atoms.calc) for dynamics in run._dynamics}) == 1


class Other(Spring):
    """Another method: other forces."""

    def calculate(self, *arguments, **kwargs):
        super().calculate(*arguments, **kwargs)
        self.results["forces"] = 1.5 * self.results["forces"]


class Killed(BaseException):
    pass


def killed_after(calls):
    """A report that ends the process, as it were, at its n-th call."""
    left = [calls]

    def report(*_):
        left[0] -= 1
        if left[0] <= 0:
            raise Killed

    return report


@pytest.mark.parametrize("every", [2, pytest.param(5, marks=pytest.mark.nightly)])
def test_killed_again_and_again_it_makes_the_same_run(tmp_path, every):
    whole = learning(tmp_path / "whole", dynamics=[hot_water(0), hot_water(1)], labels_a_round=4)
    done = whole.run(300)
    for _attempt in range(300):
        run = learning(tmp_path / "parts", dynamics=[hot_water(0), hot_water(1)], labels_a_round=4, report=killed_after(every))
        try:
            again = run.run(300)
            break
        except Killed:
            continue
    assert (again.reason, again.steps, again.labels, again.rounds) == (done.reason, done.steps, done.labels, done.rounds)
    for one, other in zip(whole._dynamics, run._dynamics):
        np.testing.assert_array_equal(one.atoms.positions, other.atoms.positions)
    plain = lambda history: [{k: v for k, v in line.items() if k != "seconds"} for line in history]  # noqa: E731
    assert plain(run.history) == plain(whole.history)


def test_budgets_end_it_and_more_budget_goes_on(tmp_path):
    done = learning(tmp_path, labels_a_round=2, budget=Budget(labels=2)).run(600)
    assert done.reason == "the budget of 2 labels is used up" and done.labels == 2
    done = learning(tmp_path, labels_a_round=2, budget=Budget(rounds=1)).run(600)
    assert done.reason == "the budget of 1 rounds is used up" and done.rounds == 1
    done = learning(tmp_path, budget=Budget(minutes=1e-9)).run(600)
    assert done.reason.endswith("minutes is used up")
    done = learning(tmp_path).run(600)
    assert done.reason == "every replica has made 600 steps"
    for nothing in ({"labels": 0}, {"minutes": 0}, {"rounds": -1}, {"minutes": float("nan")}):
        with pytest.raises(ValueError, match="teaches nothing"):
            Budget(**nothing)


def test_what_makes_it_worse_is_kept_out_and_two_end_it(tmp_path):
    done = learning(tmp_path / "once", learner=Teacher(worse=(1,)), labels_a_round=2).run(600)
    assert done.reason == "every replica has made 600 steps"
    run = learning(tmp_path / "twice", learner=Teacher(worse=(1, 2)), labels_a_round=2)
    done = run.run(600)
    assert done.reason.startswith("2 rounds in a row taught nothing") and done.folder is None and done.rounds == 2
    assert [line["kept"] for line in run.history if line["event"] == "round"] == [False, False]
    assert isinstance(done.potential, Members) and done.potential.reach == START


class Failing(Spring):
    """Fails but for structures near the minimum."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all):
        if np.abs(atoms.positions - WATER.positions).max() > 0.03:
            raise RuntimeError("SCF did not converge")
        super().calculate(atoms, properties, system_changes)


def test_a_reference_that_fails_everywhere_stops_it_and_nothing_is_lost(tmp_path):
    with pytest.raises(ValueError, match=r"none of \d+ structures could be labelled.*SCF did not converge"):
        learning(tmp_path, reference=Failing()).run(600)
    before = json.loads((tmp_path / "learning.json").read_text())
    assert before["phase"] == "learn" and before["number"] == 1 and before["labels"] > 1  # what failed was asked for, too
    assert learning(tmp_path).run(600).reason == "every replica has made 600 steps"


def test_another_reference_is_recognised(tmp_path):
    with pytest.raises(ValueError, match=r"another zero.*\+1 eV per atom"):
        learning(tmp_path, learner=Teacher(offset=-3.0)).run(10)

    with pytest.raises(ValueError, match="did not label the training data"):
        learning(tmp_path, reference=Other()).run(10)
    assert learning(tmp_path).run(10).labels == 3


def test_labels_from_elsewhere(tmp_path):
    def call():
        return learning(tmp_path, reference="elsewhere", labels_a_round=3).run(600)

    done, calls = call(), 1
    assert done.reason.startswith("label ") and done.labels == 0
    assert call().reason == done.reason  # nothing is lost by calling too early
    while done.reason.startswith("label "):
        folder = tmp_path / "rounds" / f"{calls:03d}"
        label_frames(read(folder / "chosen.xyz", ":"), folder / "labelled.xyz", Given(Spring()), 1)
        done, calls = call(), calls + 1
    assert done.reason == "every replica has made 600 steps" and done.labels > 0


def test_budgets_hold_where_labels_come_from_elsewhere(tmp_path):
    def call(**budget):
        return learning(tmp_path, reference="elsewhere", labels_a_round=2, budget=Budget(**budget)).run(600)

    assert call(labels=2).reason.startswith("label ")
    label_frames(read(tmp_path / "rounds" / "001" / "chosen.xyz", ":"), tmp_path / "rounds" / "001" / "labelled.xyz", Given(Spring()), 1)
    assert call(labels=2, rounds=1).reason in ("the budget of 1 rounds is used up", "every replica has made 600 steps")
    assert call(labels=2).reason in ("the budget of 2 labels is used up", "every replica has made 600 steps")
    assert not (tmp_path / "rounds" / "002" / "chosen.xyz").exists()


def test_a_first_check_that_failed_is_made_again(tmp_path):
    class Down(Spring):
        def calculate(self, *arguments, **kwargs):
            raise RuntimeError("no licence")

    with pytest.raises(ValueError, match="no licence"):
        learning(tmp_path, reference=Down()).run(10)
    assert learning(tmp_path).run(10).labels == 2  # the one that failed was bought, too


def test_another_reference_is_checked_when_the_run_goes_on(tmp_path):
    learning(tmp_path).run(10)

    with pytest.raises(ValueError, match="did not label the training data"):
        learning(tmp_path, reference=Other()).run(100)


def test_quiet_does_not_end_a_run_in_which_a_replica_waits(tmp_path):
    still = hot_water(5, temperature=1.0)
    still.atoms.set_momenta(np.zeros((3, 3)))
    done = learning(tmp_path, dynamics=[hot_water(0), still], labels_a_round=4).run(300, quiet=20)
    assert done.rounds > 0 or done.steps[0] < 60


def test_run_again_on_one_object_and_more_steps(tmp_path):
    twice, once = (learning(tmp_path / name, dynamics=[hot_water(0), hot_water(1)]) for name in ("twice", "once"))
    twice.run(120)
    assert not any(len(dynamics.observers) for dynamics in twice._dynamics)  # the monitors have let go
    done, whole = twice.run(300), once.run(300)
    assert done.steps == whole.steps == (300, 300) and done.labels == whole.labels


def test_an_interrupted_turn_is_made_again_by_the_same_object(tmp_path):
    run, whole = learning(tmp_path / "run"), learning(tmp_path / "whole")
    calls = [0]

    def interrupt():
        calls[0] += 1
        if calls[0] == 100:
            raise KeyboardInterrupt

    run._dynamics[0].attach(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.run(300)
    assert run.run(300).labels == whole.run(300).labels
    np.testing.assert_array_equal(run._dynamics[0].atoms.positions, whole._dynamics[0].atoms.positions)


def test_lessons_without_a_number_are_kept_out(tmp_path):
    class Blind(Teacher):
        def learn(self, *arguments):
            super().learn(*arguments)
            return Lesson(0.1, float("nan"))

    done = learning(tmp_path, learner=Blind(), labels_a_round=2).run(600)
    assert done.reason.startswith("2 rounds in a row taught nothing")
    assert learning(tmp_path, labels_a_round=2).run(600).reason == "every replica has made 600 steps"  # counted anew, with a good teacher


def test_other_dynamics_are_refused_when_the_run_goes_on(tmp_path):
    learning(tmp_path).run(60)
    slow = hot_water()
    slow.set_timestep(2 * units.fs)
    with pytest.raises(ValueError, match="replica 0 was made with another dt"):
        learning(tmp_path, dynamics=slow).run(120)
    sulphide = hot_water()
    sulphide.atoms.numbers[0] = 16
    with pytest.raises(ValueError, match="other atoms"):
        learning(tmp_path, dynamics=sulphide).run(120)
    with pytest.raises(ValueError, match="1 replicas, 2 are given"):
        learning(tmp_path, dynamics=[hot_water(), hot_water(1)]).run(120)
    assert learning(tmp_path).run(120).steps == (120,)


def test_other_criteria_begin_to_count_anew(tmp_path):
    learning(tmp_path).run(60)
    criteria = [Criterion("forces_uncertainty_max_epistemic", 10.0)]
    assert learning(tmp_path, criteria=criteria).run(200).steps == (200,)


def test_bad_arguments(tmp_path):
    with pytest.raises(TypeError, match="ASE calculator or the name"):
        learning(tmp_path, reference=3)
    with pytest.raises(ValueError, match="no method 'dft'"):
        learning(tmp_path, reference="dft")
    with pytest.raises(TypeError, match="molecular dynamics"):
        learning(tmp_path, dynamics=[WATER])
    one = hot_water()
    with pytest.raises(ValueError, match="atoms and random numbers of their own"):
        learning(tmp_path, dynamics=[one, one])
    with pytest.raises(ValueError, match="must be at least 1"):
        learning(tmp_path).run(0)
    with pytest.raises(TypeError, match="the budget of labels must be a whole number"):
        Budget(labels=2.5)
