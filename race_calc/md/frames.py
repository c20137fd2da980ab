"""Frames on which the monitor acts: the halting frame, and the file of those that are to be labelled. Uses ASE."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from race_calc.md.images import model_hash
from race_calc.md.journal import now
from race_calc.md.judge import STRUCTURE, Sight
from race_calc.md.record import MonitorRecord, annotate, append_frame
from race_calc.md.saving import SavedFrames
from race_calc.uncertainty.decisions import Violation


def tagged(record: MonitorRecord, seen: Sight, image: int | None, run_id: str) -> Atoms:
    """A copy of an image with its prediction, where there is one (`annotate`), and where it is from.

    Info: `step`, `run`, `date`, `violations` (criteria on which the monitor acted at this image), and where they are known `time_fs`,
    `image` and `model`.
    """
    atoms = seen.atoms[image]
    frame = annotate(atoms, seen.predictions[image]) if image in seen.predictions else atoms.copy()
    frame.info |= {"step": record.step, "run": run_id, "date": now(), "violations": " ".join(_names(record.decision.acting, image))}
    known = {"time_fs": record.time, "image": image, "model": model_hash([atoms.calc])}
    frame.info |= {name: value for name, value in known.items() if value is not None}
    return frame


def save_flagged(path: str | Path, saved: SavedFrames, record: MonitorRecord, seen: Sight, run_id: str) -> None:
    """Append the images on which the monitor acts, as far apart as `saved` says; none that has exploded."""
    for image in dict.fromkeys(v.image for v in record.decision.acting):
        if STRUCTURE in _names(record.decision.acting, image):
            continue
        halts = any(v.action == "halt" for v in record.decision.acting if v.image == image)
        if saved.admit(image, seen.atoms[image], record.time, always=halts):
            append_frame(path, tagged(record, seen, image, run_id))


def _names(violations: Sequence[Violation], image: int | None) -> list[str]:
    return list(dict.fromkeys(v.criterion for v in violations if v.image == image))


def check_appendable(name: str, path: str | Path | None) -> None:
    """Open the file once for writing and leave all as it was; `name`: of the argument, for the message.

    Raises TypeError for no path, FileNotFoundError for a folder that is not there, ValueError for what is no file, PermissionError for
    what cannot be written.
    """
    if path is None:
        return
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path or None, got {path!r}")
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"the folder of {name} {path} does not exist: make {path.absolute().parent}, or give another path")
    new = not os.path.lexists(path)
    if not new and path.exists() and not (path.is_file() or stat.S_ISCHR(path.stat().st_mode)):
        raise ValueError(f"{name} {path} is no file: give the path of a file to append to")
    try:
        with open(path, "ab"):
            pass
    except OSError as error:
        raise type(error)(f"{name} {path} cannot be written ({error.strerror}): give another path") from error
    if new:
        path.unlink()
