"""One process a run: a file with the process and its machine lies in the folder while a run is live."""

import json
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LOCK_FILE = "training.lock"


@contextmanager
def locked(folder: Path, name: str = LOCK_FILE) -> Iterator[None]:
    """Hold the lock `name` of a folder, made where it is missing; the file goes when the block ends, however it ends.

    A lock whose process ended without removing it is taken over, with a warning. Raises RunningError for that of a live
    process, of another machine, and for one that cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if os.path.lexists(path):
        _take_over(path)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        raise RunningError(f"another process has just begun to write to {folder}: let it end, or give another --out") from None
    mine = json.dumps({"pid": os.getpid(), "host": platform.node(), "began": _began(os.getpid())})
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(mine)
        yield
    finally:
        if _content(path) == mine:  # not that of a process that took over
            path.unlink(missing_ok=True)


class RunningError(ValueError):
    """The folder belongs to a process that is at work."""


def _take_over(path: Path) -> None:
    """Remove a lock whose process is gone."""
    content = _content(path)
    try:
        owner: dict[str, Any] = json.loads(content)
        pid, host, began = int(owner["pid"]), str(owner["host"]), owner["began"]
        if pid < 1:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise RunningError(f"{path} cannot be read: if no process works in this folder, delete that file") from None
    if host != platform.node():
        raise RunningError(f"process {pid} on {host} works in {path.parent}: let it end; if it is gone, delete {path}")
    if _alive(pid, began):
        raise RunningError(f"process {pid} works in {path.parent}: let it end, or stop it; its lock is {path}")
    warnings.warn(f"took over {path.parent}: process {pid}, which worked there, is gone", stacklevel=4)
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):  # another process was faster
        os.rename(path, aside)  # of two that take over at once one gets the file, and sees whether it is the one it judged
        if _content(aside) != content:
            os.rename(aside, path)
            raise RunningError(f"another process has just begun to write to {path.parent}: let it end, or give another --out")
        aside.unlink()


def _content(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _alive(pid: int, began: str | None) -> bool:
    """Is this process at work? Another one that got its number later has begun at another time."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # of another user
    now = _began(pid)
    return began is None or now is None or began == now


def _began(pid: int) -> str | None:
    """When the process began, in clock ticks since the machine started; None where the system does not tell (outside Linux)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
