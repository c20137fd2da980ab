"""A whole file of structures: labelled over processes, and nothing lost when the work is stopped."""

import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from race_calc.data.extxyz import as_extxyz
from race_calc.data.files import write_atomically
from race_calc.data.lock import locked
from race_calc.label.cluster import over_cluster
from race_calc.label.frame import ERROR, label, labelled
from race_calc.label.given import Given
from race_calc.label.journal import Journal, hash_of
from race_calc.label.methods import Method
from race_calc.label.parallel import Failure, here, over_processes

SUFFIXES = (".xyz", ".extxyz")
_ONE_AT_A_TIME = threading.Lock()
IN_THIS_PROCESS = 0  # in the place of a number of processes


@dataclass(frozen=True)
class Labelled:
    """Where the labelled frames are, how many; how many could not be labelled, where those are (None: there are none), and why, of the
    first; the program that labelled, as `Method.code` told it at the start."""

    path: Path
    count: int
    failed: int
    apart: Path | None
    reason: str | None
    code: str


def label_frames(
    frames: Sequence[Atoms],
    out: Path,
    method: Method | Given,
    processes: int,
    report: Callable[[int, int, int], None] = lambda *_: None,
    cluster: str | None = None,
) -> Labelled:
    """Label structures and write them to `out` (extxyz) in their order; those that cannot be labelled beside it, with the reason.

    Until the end the labels are in `out` + ".journal". Called again with the same structures and method, it goes on from there; what
    failed is tried again. `report`: called with the numbers of frames that are done, that failed among them, and of all. `cluster`: the
    address of a Dask cluster that does the work in place of `processes`; files of a calculator then lie where its workers run. With
    IN_THIS_PROCESS, and of a `Given` calculator always, the work is done here: no script is imported again, and a crash ends it.

    Raises FileExistsError where `out` or the file beside it is there, RunningError where another process writes them, ValueError for
    no structures, a journal of other work, or if none could be labelled.
    """
    if not frames:
        raise ValueError("there are no structures to label")
    check_new(out)
    method.calculator()  # a missing package is an error of all frames
    code = method.code()  # of now: the file of a calculator may be edited while it works
    task = {"structures": hash_of(frames), "frames": len(frames), "method": method.name, "code": code}
    journal = Journal(journal_beside(out), task)
    with locked(out.absolute().parent, out.name + ".lock"):
        done = {i: entry for i, entry in journal.begin().items() if "failed" not in entry}
        waiting = deque((i, atoms) for i, atoms in enumerate(frames) if i not in done)
        report(len(done), 0, len(frames))
        with scratch_folder() as scratch, closing(_results(method, scratch, waiting, processes, cluster)) as results:
            for (i, _), result in results:
                done[i] = {"failed": result.reason} if isinstance(result, Failure) else result
                journal.append(i, done[i])
                report(len(done), sum("failed" in entry for entry in done.values()), len(frames))
        found = _written(frames, done, out, {"labels": method.name, "labels_code": code})
        journal.path.unlink()
    if not found.count:
        raise ValueError(f"none of {len(frames)} structures could be labelled, see {found.apart}; the first: {found.reason}")
    return found


def failed_beside(out: Path) -> Path:
    return out.with_name(f"{out.stem}-failed.xyz")


def journal_beside(out: Path) -> Path:
    return out.with_name(out.name + ".journal")


def check_new(out: Path) -> None:
    """Raises FileExistsError where `out` or the file of failed frames is there, FileNotFoundError where its folder is not, ValueError for
    another format."""
    if out.suffix not in SUFFIXES:
        raise ValueError(f"{out} is to be an extended XYZ file: give a name that ends in {' or '.join(SUFFIXES)}")
    going_on = os.path.lexists(journal_beside(out))  # killed while it wrote: failed frames are there, the journal has them all
    for path in (out,) if going_on else (out, failed_beside(out)):
        if os.path.lexists(path):
            raise FileExistsError(f"{path} is there already: give another --out, or delete it")
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"the folder {out.absolute().parent} does not exist: make it, or give another --out")


@contextmanager
def scratch_folder(within: Path | None = None) -> Iterator[Path]:
    """For the files of a calculator; gone when the block ends."""
    with tempfile.TemporaryDirectory(prefix="race-calc-label-", dir=within, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _results(
    method: Method | Given, scratch: Path, waiting: deque[Any], processes: int, cluster: str | None
) -> Generator[tuple[Any, Any], None, None]:
    if isinstance(method, Given) or (processes == IN_THIS_PROCESS and cluster is None):
        return here(partial(_entry, method, scratch), waiting)
    if cluster is None:
        return over_processes(partial(_entry, method, scratch), waiting, processes)
    return over_cluster(partial(_entry, method, None), waiting, cluster)


def _entry(method: Method | Given, scratch: Path | None, piece: tuple[int, Atoms]) -> dict[str, Any]:
    """The labels of a structure as plain numbers. One at a time: a process has one calculator, and workers of a cluster have threads."""
    with _ONE_AT_A_TIME, scratch_folder(scratch) as folder:
        results = label(piece[1], folder, method).calc.results
    return {name: np.asarray(value).tolist() for name, value in results.items()}


def _written(frames: Sequence[Atoms], done: dict[int, dict[str, Any]], out: Path, provenance: dict[str, str]) -> Labelled:
    good, bad, reasons = [], [], []
    for i, atoms in enumerate(frames):
        if "failed" in done[i]:
            reasons.append(done[i]["failed"])
            bad.append(atoms.copy())
            bad[-1].info[ERROR] = reasons[-1]
        else:
            good.append(labelled(atoms, {name: np.array(value) for name, value in done[i].items()}, provenance))
    apart = failed_beside(out)
    if bad:
        write_atomically(apart, as_extxyz(bad))
    else:
        apart.unlink(missing_ok=True)  # of a kill before; what failed then is labelled now
    if good:
        write_atomically(out, as_extxyz(good))
    return Labelled(out, len(good), len(bad), apart if bad else None, reasons[0] if bad else None, provenance["labels_code"])
