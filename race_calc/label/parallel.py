"""Work that other people's code does, over processes: one that dies takes nothing with it but its own piece."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from race_calc.data.files import shortened

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
DIED = "its process died (killed, out of memory, or a crash in the program)"


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Failure:
    """In the place of a result: why there is none, in one line."""

    reason: str


def over_processes(work: Callable[[Any], Any], waiting: deque[Any], processes: int) -> Generator[tuple[Any, Any], None, None]:
    """(piece, result) of each piece that waits, as they are done; a Failure in place of the result of a piece that raised an exception.

    Who takes a result may put more pieces into `waiting`, and closes the iterator where it leaves early. `work` and the pieces must be
    picklable; each process works on one thread. Pieces that were at work when a process died are tried again one by one, and fail if
    it dies again.
    """
    suspects = deque[Any]()
    while waiting or suspects:
        alone = not waiting
        source, workers = (suspects, 1) if alone else (waiting, min(processes, len(waiting)))
        with _one_thread():
            pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)
            try:
                for piece, result in _drained(pool, partial(guarded, work), source, workers):
                    if not isinstance(result, BrokenProcessPool):
                        yield piece, result
                    elif alone:
                        yield piece, Failure(DIED)
                    else:
                        suspects.append(piece)
            finally:
                _end(pool)


@contextmanager
def beside(work: Callable[[], Any]) -> Iterator["Future[Any]"]:
    """The result to be of `work`, picklable, in another process on one thread. It is ended where the block ends before it."""
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin)
    try:
        with _one_thread():
            future = pool.submit(work)
        yield future
    finally:
        _end(pool)


def here(work: Callable[[Any], Any], waiting: deque[Any]) -> Generator[tuple[Any, Any], None, None]:
    """The same in this process, for work that cannot go to another."""
    while waiting:
        piece = waiting.popleft()
        yield piece, guarded(work, piece)


def guarded(work: Callable[[Any], Any], piece: Any) -> Any:
    """The result, or a Failure: not every exception finds its way back from another process."""
    try:
        return work(piece)
    except Exception as error:  # whatever the program meets
        return Failure(shortened(f"{type(error).__name__}: {error}"))


@contextmanager
def _one_thread() -> Iterator[None]:
    """What is started now finds these settings before it loads any library."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _drained(pool: ProcessPoolExecutor, work: Callable[[Any], Any], source: deque[Any], workers: int) -> Iterator[tuple[Any, Any]]:
    """Results until the source is empty or the pool broke; no more pieces are handed out than there are workers."""
    running: dict[Future[Any], Any] = {}
    broken = False
    while running or (source and not broken):
        while source and not broken and len(running) < workers:
            piece = source.popleft()
            try:
                running[pool.submit(work, piece)] = piece
            except BrokenProcessPool:
                source.appendleft(piece)
                broken = True
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            error = future.exception()
            broken = broken or isinstance(error, BrokenProcessPool)
            yield running.pop(future), future.result() if error is None else error


def _begin() -> None:
    """In a new process: no word on Ctrl-C (the parent ends it), and no life after the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=partial(_follow, parent), daemon=True).start()


def _follow(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _end(pool: ProcessPoolExecutor) -> None:
    """Stop the processes, also in the middle of their work."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(10)
