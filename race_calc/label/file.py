"""A whole file of structures: labelled over processes, and nothing lost when the work is stopped."""

import io
import os
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from race_calc.data.extxyz import storable
from race_calc.data.files import shortened, write_atomically
from race_calc.label.frame import label
from race_calc.label.journal import Journal, hash_of
from race_calc.label.methods import Method
from race_calc.label.parallel import over_processes

ERROR = "label_error"  # info of a frame without labels: why


@dataclass(frozen=True)
class Labelled:
    """Where the labelled frames are, how many; how many could not be labelled, where those are (None: there are none), and why, of the
    first."""

    path: Path
    count: int
    failed: int
    apart: Path | None
    reason: str | None


def label_frames(
    frames: Sequence[Atoms], out: Path, method: Method, processes: int, report: Callable[[int, int, int], None] = lambda *_: None
) -> Labelled:
    """Label structures and write them to `out` (extxyz) in their order; those that cannot be labelled beside it, with the reason.

    Until the end the labels are in `out` + ".journal". Called again with the same structures and method, it goes on from there.
    `report`: called with the numbers of frames that are done, that failed among them, and of all.

    Raises FileExistsError where `out` is there, ValueError for no structures, a journal of other work, or if none could be labelled.
    """
    if not frames:
        raise ValueError("there are no structures to label")
    check_new(out)
    method.calculator()  # a missing package is an error of all frames
    task = {"structures": hash_of(frames), "frames": len(frames), "method": method.name, "code": method.code()}
    journal = Journal(out.with_name(out.name + ".journal"), task)
    done = journal.begin()
    todo = [i for i in range(len(frames)) if i not in done]
    report(len(done), _failures(done), len(frames))
    with tempfile.TemporaryDirectory(prefix="race-calc-label-") as scratch:
        work = partial(_entry, method=method, scratch=Path(scratch))
        for (i, _), result in over_processes(work, deque((i, frames[i]) for i in todo), processes):
            done[i] = {"failed": reason(result)} if isinstance(result, BaseException) else result
            journal.append(i, done[i])
            report(len(done), _failures(done), len(frames))
    found = _written(frames, done, out, method)
    journal.path.unlink()
    return found


def check_new(out: Path) -> None:
    """Raises FileExistsError where there is a file or folder of this name, FileNotFoundError where its folder is not."""
    if os.path.lexists(out):
        raise FileExistsError(f"{out} is there already: give another --out, or delete it")
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"the folder {out.absolute().parent} does not exist: make it, or give another --out")


def _entry(piece: tuple[int, Atoms], method: Method, scratch: Path) -> dict[str, Any]:
    """In a process of its own: the labels of a structure as plain numbers."""
    number, atoms = piece
    folder = scratch / str(number)
    folder.mkdir(exist_ok=True)  # of a process that died
    results = label(atoms, folder, method).calc.results
    return {name: np.asarray(value).tolist() for name, value in results.items()}


def _failures(done: dict[int, dict[str, Any]]) -> int:
    return sum("failed" in entry for entry in done.values())


def reason(error: BaseException) -> str:
    """One line."""
    return shortened(f"{type(error).__name__}: {error}")


def _written(frames: Sequence[Atoms], done: dict[int, dict[str, Any]], out: Path, method: Method) -> Labelled:
    good, bad = [], []
    for i, atoms in enumerate(frames):
        entry = {name: value for name, value in done[i].items() if name != "piece"}
        copy = atoms.copy()
        copy.set_constraint()
        if "failed" in entry:
            copy.info[ERROR] = entry["failed"]
            bad.append(copy)
        else:
            copy.info |= method.provenance()
            copy.calc = SinglePointCalculator(
                copy, **{name: np.array(value) if name != "energy" else value for name, value in entry.items()}
            )
            good.append(copy)
    apart = out.with_name(f"{out.stem}-failed.xyz")
    if bad:
        write_atomically(apart, _text(bad))
    if not good:
        raise ValueError(f"none of {len(frames)} structures could be labelled, see {apart}; the first: {bad[0].info[ERROR]}")
    write_atomically(out, _text(good))
    return Labelled(out, len(good), len(bad), apart if bad else None, bad[0].info[ERROR] if bad else None)


def _text(frames: Sequence[Atoms]) -> bytes:
    file = io.StringIO()
    for atoms in frames:
        atoms.info = storable(atoms.info)
        write(file, atoms, format="extxyz")
    return file.getvalue().encode()
