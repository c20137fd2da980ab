"""A file labelled over processes: failures, crashes, kills, second runs."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write

from race_calc.data.files import write_atomically
from race_calc.data.lock import RunningError
from race_calc.label import file
from race_calc.label.file import IN_THIS_PROCESS, label_frames
from race_calc.label.frame import label
from race_calc.label.given import Given
from race_calc.label.journal import Journal, hash_of
from race_calc.label.methods import Method

ODD = Method("own_methods:odd")


def frames(n: int, **kinds: int) -> list[Atoms]:
    """`kinds`: f3=-1 puts the first atom of frame 3 where the odd calculator fails."""
    made = []
    for seed in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=seed)
        atoms.info["number"] = seed
        made.append(atoms)
    for name, place in kinds.items():
        made[int(name[1:])].positions[0, 0] = place
    return made


def test_order_labels_and_info_are_kept(tmp_path):
    given, reports = frames(5), []
    found = label_frames(given, tmp_path / "out.xyz", ODD, 2, lambda *numbers: reports.append(numbers))
    assert (found.count, found.failed, found.apart, found.reason) == (5, 0, None, None)
    written = read(tmp_path / "out.xyz", ":")
    assert [atoms.info["number"] for atoms in written] == [0, 1, 2, 3, 4]
    for atoms, one in zip(given, written):
        expected = label(atoms, tmp_path, ODD)
        assert one.get_potential_energy() == expected.get_potential_energy()
        np.testing.assert_allclose(one.get_forces(), expected.get_forces(), atol=1e-7)
        assert one.info["labels"] == "own_methods:odd"
    assert reports[0] == (0, 0, 5) and reports[-1] == (5, 0, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.xyz"]


def test_a_calculator_labels_here_as_a_method_does_elsewhere(tmp_path):
    found = label_frames(frames(4), tmp_path / "given.xyz", Given(EMT()), 2)
    label_frames(frames(4), tmp_path / "method.xyz", Method("own_methods:emt"), 1)
    given, method = (read(tmp_path / f"{name}.xyz", ":") for name in ("given", "method"))
    for one, other in zip(given, method, strict=True):
        np.testing.assert_allclose(one.get_forces(), other.get_forces(), atol=1e-10)
        assert one.info["labels"] == "EMT" and one.info["labels_code"].startswith("ase ")
    assert found.count == 4
    with pytest.raises(TypeError, match="an ASE calculator or the name of a method"):
        Given("gfn2-xtb")


def test_failures_are_kept_apart_and_a_crash_takes_only_its_own_frame(tmp_path):
    found = label_frames(frames(7, f1=-1, f3=-2, f5=-3), tmp_path / "out.xyz", ODD, 2)
    assert (found.count, found.failed) == (4, 3) and found.apart == tmp_path / "out-failed.xyz"
    assert [atoms.info["number"] for atoms in read(found.path, ":")] == [0, 2, 4, 6]
    failed = {atoms.info["number"]: atoms.info["label_error"] for atoms in read(found.apart, ":")}
    assert failed[1] == "RuntimeError: did not converge"
    assert "its process died" in failed[3] and "forces not finite" in failed[5]


def test_nothing_labelled_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"none of 2 structures could be labelled, see .*out-failed.xyz; the first: RuntimeError"):
        label_frames(frames(2, f0=-1, f1=-1), tmp_path / "out.xyz", ODD, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-failed.xyz"]  # the next call begins anew


def test_what_failed_is_tried_again_when_the_work_goes_on(tmp_path):
    """A licence that was not there, a full disk: the journal keeps successes only."""
    given = frames(4, f0=-1)
    stopped(tmp_path, given, after=2)
    lines = (tmp_path / "out.xyz.journal").read_text().splitlines()
    assert "failed" in lines[1] and len(lines) == 3
    reports = []
    found = label_frames(given, tmp_path / "out.xyz", ODD, 1, lambda *numbers: reports.append(numbers))
    assert reports[0] == (1, 0, 4) and (found.count, found.failed) == (3, 1)


def test_an_exception_that_cannot_be_sent_is_told(tmp_path):
    found = label_frames(frames(3, f1=-5), tmp_path / "out.xyz", ODD, 2)
    assert (found.count, found.failed, found.reason) == (2, 1, "TwoArgumentsError: first and second")


def test_files_of_calculators_are_apart_and_gone_afterwards(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    for name in ("writes", "modern"):
        found = label_frames(frames(4), tmp_path / f"{name}.xyz", Method(f"own_methods:{name}"), 2)
        assert found.count == 4, found.reason
    assert not list((tmp_path / "scratch").iterdir())


def test_two_at_once_are_refused(tmp_path):
    def report(done: int, failed: int, of_all: int) -> None:
        if done == 1:
            with pytest.raises(RunningError, match="works in"):
                label_frames(frames(2), tmp_path / "out.xyz", ODD, 1)

    assert label_frames(frames(2), tmp_path / "out.xyz", ODD, 1, report).count == 2


@pytest.mark.parametrize("name", ["out.traj", "out"])
def test_other_formats_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"give a name that ends in .xyz or .extxyz"):
        label_frames(frames(1), tmp_path / name, ODD, 1)


def test_failed_frames_of_another_run_are_not_overwritten(tmp_path):
    (tmp_path / "out-failed.xyz").write_text("precious")
    with pytest.raises(FileExistsError, match="out-failed.xyz is there already"):
        label_frames(frames(1), tmp_path / "out.xyz", ODD, 1)


def test_a_kill_between_the_two_files_goes_on(tmp_path, monkeypatch):
    def killed(path: Path, content: bytes) -> None:
        write_atomically(path, content)
        raise _StoppedError

    monkeypatch.setattr(file, "write_atomically", killed)
    with pytest.raises(_StoppedError):
        label_frames(frames(3, f1=-1), tmp_path / "out.xyz", ODD, 1)
    monkeypatch.undo()
    assert (tmp_path / "out-failed.xyz").exists() and not (tmp_path / "out.xyz").exists()
    found = label_frames(frames(3, f1=-1), tmp_path / "out.xyz", ODD, 1)
    assert (found.count, found.failed) == (2, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-failed.xyz", "out.xyz"]
    (tmp_path / "out.xyz").unlink()
    stopped_by = Journal(
        tmp_path / "out.xyz.journal", {"structures": hash_of(frames(2)), "frames": 2, "method": ODD.name, "code": ODD.code()}
    )
    stopped_by.begin()  # as if a kill had left the file of frames that failed, and none fails now
    label_frames(frames(2), tmp_path / "out.xyz", ODD, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.xyz"]


def test_what_stood_under_the_names_of_the_labels_goes(tmp_path):
    """ASE refuses to write a name twice, and its readers would take an old one for a label."""
    given = frames(2)
    given[0].info |= {"energy": -999.0, "stress": np.ones(6), "label_error": "of another method"}
    given[0].set_array("forces", np.ones((4, 3)))
    found = read(label_frames(given, tmp_path / "out.xyz", ODD, 1).path, ":")
    own = label(given[0], tmp_path, ODD)
    assert found[0].get_potential_energy() == pytest.approx(own.get_potential_energy()) and "label_error" not in found[0].info
    np.testing.assert_allclose(found[0].get_forces(), own.get_forces(), atol=1e-7)
    np.testing.assert_allclose(found[0].get_stress(), own.get_stress(), atol=1e-7)


def test_the_code_is_that_of_the_start(tmp_path, monkeypatch):
    """The file of a calculator may be edited while it works: what was loaded has labelled."""
    codes = iter(["own 1", "own 2", "own 3"])
    monkeypatch.setattr(Method, "code", lambda self: next(codes))
    found = label_frames(frames(2), tmp_path / "out.xyz", ODD, IN_THIS_PROCESS)
    assert {atoms.info["labels_code"] for atoms in read(found.path, ":")} == {"own 1"}


def test_a_damaged_journal_can_be_deleted(tmp_path):
    (tmp_path / "out.xyz.journal").write_text("")
    with pytest.raises(ValueError, match=r"journal is damaged .*or delete it, to begin the labels anew"):
        label_frames(frames(1), tmp_path / "out.xyz", ODD, 1)


def test_a_finished_file_is_not_overwritten(tmp_path):
    (tmp_path / "out.xyz").write_text("mine")
    with pytest.raises(FileExistsError, match="is there already"):
        label_frames(frames(1), tmp_path / "out.xyz", ODD, 1)
    assert (tmp_path / "out.xyz").read_text() == "mine"


def test_the_journal_of_other_work_is_refused(tmp_path):
    stopped(tmp_path, frames(4), after=2)
    with pytest.raises(ValueError, match="belongs to other structures, other settings, another method"):
        label_frames(frames(3), tmp_path / "out.xyz", ODD, 1)
    with pytest.raises(ValueError, match="belongs to other structures, other settings, another method"):
        label_frames(frames(4), tmp_path / "out.xyz", Method("own_methods:emt"), 1)


class _StoppedError(Exception):
    pass


def stopped(folder: Path, given: list[Atoms], after: int) -> None:
    def report(done: int, failed: int, of_all: int) -> None:
        if done == after:
            raise _StoppedError

    with pytest.raises(_StoppedError):
        label_frames(given, folder / "out.xyz", ODD, 1, report)


def test_a_half_written_line_is_done_again(tmp_path):
    stopped(tmp_path, frames(4), after=2)
    journal = tmp_path / "out.xyz.journal"
    journal.write_bytes(journal.read_bytes()[:-20])
    reports = []
    label_frames(frames(4), tmp_path / "out.xyz", ODD, 1, lambda *numbers: reports.append(numbers))
    assert reports[0] == (1, 0, 4)
    assert [atoms.info["number"] for atoms in read(tmp_path / "out.xyz", ":")] == [0, 1, 2, 3]


def test_lines_after_a_damaged_one_are_done_again(tmp_path):
    stopped(tmp_path, frames(4), after=3)
    journal = tmp_path / "out.xyz.journal"
    lines = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join([*lines[:2], b"\0" * 40, *lines[3:]]))
    reports = []
    label_frames(frames(4), tmp_path / "out.xyz", ODD, 1, lambda *numbers: reports.append(numbers))
    assert reports[0] == (1, 0, 4)


def test_charges_belong_to_the_task():
    plain, charged = frames(1), frames(1)
    charged[0].set_initial_charges([1, 0, 0, 0])
    assert hash_of(plain) != hash_of(charged)


@pytest.mark.nightly
def test_killed_work_goes_on_and_leaves_no_process(tmp_path):
    given = frames(12)
    for atoms in given:
        atoms.positions[0, 0] = -4
    write(tmp_path / "in.xyz", given)
    command = [sys.executable, "-m", "race_calc", "label", "in.xyz", "--calculator", "own_methods:odd", "--out", "out.xyz"]
    command += ["--processes", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])}
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    journal, began = tmp_path / "out.xyz.journal", time.monotonic()
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 4) and time.monotonic() - began < 60:
        time.sleep(0.02)
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children")
    workers = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = journal.read_bytes().count(b"\n") - 1
    assert 3 <= before < 12
    second = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert "12 structures labelled" in second.stdout
    assert [atoms.info["number"] for atoms in read(tmp_path / "out.xyz", ":")] == list(range(12))
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]]
