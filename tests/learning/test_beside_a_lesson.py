"""Replicas that do not wait go on while the learner learns in another process: the same steps each time, also after a failure."""

import os
import time

import numpy as np
import pytest
from spring_learner import Spring, Teacher, hot_water

from race_calc.learning import on_the_fly
from race_calc.learning.lesson import lesson
from race_calc.learning.on_the_fly import OnTheFly
from race_calc.learning.round import Round


@pytest.fixture(autouse=True)
def short_turns(monkeypatch):
    monkeypatch.setattr(on_the_fly, "TURN", 20)


class Elsewhere(Teacher):
    """Tells which process learned; the first lesson fails where a file asks for it."""

    def learn(self, labels, before, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "process").write_text(str(os.getpid()))
        if (fails := folder.parents[3] / "fails").exists():
            fails.unlink()
            raise RuntimeError("no lesson today")
        return super().learn(labels, before, folder)


class Asleep(Teacher):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def learn(self, labels, before, folder):
        time.sleep(self.seconds)
        (folder / "learned").touch()


class Dying(Teacher):
    def learn(self, labels, before, folder):
        os._exit(1)


class Unmovable(Teacher):
    def __init__(self):
        super().__init__()
        self.report = lambda record: None


def made(folder, **kwargs):
    replicas = [hot_water(0, 1.0), hot_water(1, 1.0), hot_water(2, 300.0)]
    for cold in replicas[:2]:
        cold.atoms.set_momenta(np.zeros((3, 3)))
    return OnTheFly(replicas, Spring(), Elsewhere(), folder, labels_a_round=4, processes=2, **kwargs)


def end_of(run):
    """What a run came to, without times."""
    history = [{name: value for name, value in line.items() if name != "seconds"} for line in run.history]
    return history, [dynamics.atoms.positions.tolist() for dynamics in run._dynamics]


@pytest.mark.nightly
def test_they_go_on_beside_a_lesson(tmp_path):
    told = []
    run = made(tmp_path / "run", report=lambda event, content: told.append((event, content)))
    done = run.run(300)
    assert done.steps == (300, 300, 300) and done.rounds >= 1
    processes = [(Round(tmp_path / "run", number).model / "process").read_text() for number in range(1, done.rounds + 1)]
    assert str(os.getpid()) not in processes[:1]  # while all are on their way
    turns = [content["steps"] for event, content in told if event == "turn"]
    assert len(turns) % 3 == 0
    first = [event for event, _ in told].index("round")
    assert next(line["replica"] for line in run.history if line["event"] == "halt") == 2
    before = [[content["steps"] for event, content in told[:first] if event == "turn" and content["replica"] == k] for k in (0, 2)]
    assert before[0][-1] == 20 * len(before[0]) == before[0][-1 - on_the_fly.MEANWHILE] + 20 * on_the_fly.MEANWHILE
    assert len(set(before[1][-on_the_fly.MEANWHILE :])) == 1  # the halted one waits


@pytest.mark.nightly
def test_a_lesson_that_failed_is_learned_again_and_the_steps_are_the_same(tmp_path):
    whole = made(tmp_path / "whole")
    whole.run(100)
    (tmp_path / "fails").touch()
    parts = made(tmp_path / "parts")
    with pytest.raises(RuntimeError, match="no lesson today"):
        parts.run(100)
    again = made(tmp_path / "parts")
    again.run(100)
    assert end_of(again) == end_of(whole)


def test_what_fails_meanwhile_waits_for_the_lesson(tmp_path):
    def meanwhile():
        raise FloatingPointError("the dynamics broke")

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(FloatingPointError):
        lesson(Asleep(1.0), [], None, tmp_path, meanwhile)
    assert (tmp_path / "learned").exists()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        lesson(Asleep(60.0), [], None, tmp_path, interrupted)
    assert time.monotonic() - begun < 30


def test_a_process_that_dies_and_a_learner_that_cannot_travel(tmp_path):
    with pytest.raises(RuntimeError, match="not learned: its process died"):
        lesson(Dying(), [], None, tmp_path, lambda: None)
    dynamics = [hot_water(0), hot_water(1)]
    with pytest.raises(TypeError, match="cannot be pickled"):
        OnTheFly(dynamics, Spring(), Unmovable(), tmp_path / "run", processes=2)
    OnTheFly(dynamics, Spring(), Unmovable(), tmp_path / "run")


def test_quiet_steps_are_those_with_what_was_learned(tmp_path):
    run = made(tmp_path / "run")
    done = run.run(300, quiet=150)
    assert "no label was asked for" in done.reason and done.steps[2] > 40  # the one that halted went on, too


def test_candidates_beside_a_lesson_that_was_killed_are_forgotten(tmp_path):
    now = Round(tmp_path, 3)
    now.collect(7, [hot_water(0).atoms])
    now.forget()
    assert now.candidates() == []


def test_without_anything_meanwhile_it_stays_here(tmp_path):
    with pytest.raises(ValueError, match="max"):  # of no frames
        lesson(Elsewhere(), [], None, tmp_path / "a" / "b" / "c", None)
    assert (tmp_path / "a" / "b" / "c" / "process").read_text() == str(os.getpid())
