"""One process a run: a live lock refuses, a stale one is taken over, none is left."""

import json
import os
import platform
import subprocess
import sys
import warnings

import pytest
import torch
from small_run import write_run

from race_calc.data.lock import LOCK_FILE, RunningError, locked
from race_calc.train.config import load_config
from race_calc.train.loop import train
from race_calc.train.prepare import prepare


def run(folder, resume=False, report=lambda record: None):
    config = load_config(write_run(folder, training__epochs=2))
    return train(config, prepare(config, folder), folder / "out", torch.device("cpu"), resume, report)


def write_lock(folder, **changes):
    folder.mkdir(exist_ok=True)
    owner = {"pid": os.getpid(), "host": platform.node(), "began": None} | changes
    (folder / LOCK_FILE).write_text(json.dumps(owner))


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_second_process_on_a_live_run_is_refused_and_changes_nothing(tmp_path):
    seen = []

    def second(record):
        if record["kind"] == "epoch" and not seen:
            before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
            with pytest.raises(RunningError, match=f"process {os.getpid()} works in .*out: let it end"):
                run(tmp_path, resume=True)
            seen.append(before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()})

    run(tmp_path, report=second)
    assert seen == [True] and not (tmp_path / "out" / LOCK_FILE).exists()


def test_no_lock_is_left_after_an_interruption(tmp_path):
    def stop(record):
        assert (tmp_path / "out" / LOCK_FILE).is_file()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, report=stop)
    assert not (tmp_path / "out" / LOCK_FILE).exists()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="took over")
        run(tmp_path, resume=True)


def test_the_lock_of_a_dead_process_is_taken_over_with_a_note(tmp_path):
    write_lock(tmp_path / "out", pid=ended_process())
    with pytest.warns(UserWarning, match=r"took over .*out: process \d+, which worked there, is gone"), locked(tmp_path / "out"):
        assert json.loads((tmp_path / "out" / LOCK_FILE).read_text())["pid"] == os.getpid()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells when a process began")
def test_another_process_with_the_same_number_is_not_the_owner(tmp_path):
    write_lock(tmp_path, began="1")  # the number of this process, which began later
    with pytest.warns(UserWarning, match="took over"), locked(tmp_path):
        pass


@pytest.mark.parametrize(
    "changes, message",
    [({"host": "elsewhere"}, "on elsewhere works in .*if it is gone, delete .*training.lock"), ({"pid": "?"}, "delete that file")],
)
def test_locks_that_cannot_be_judged_are_refused_with_what_to_delete(tmp_path, changes, message):
    write_lock(tmp_path, **changes)
    with pytest.raises(RunningError, match=message), locked(tmp_path):
        pass
    assert (tmp_path / LOCK_FILE).exists()
