"""The machine: devices by name, members of a stack shared out to threads, and memory that is kept for the next step."""

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

MemberMap = Callable[..., tuple[Any, ...]]  # of Tensors, or None


def member_map(members: int, device: torch.device) -> MemberMap:
    """A function `map(f, *stacks)` that applies f to row blocks of tensors (M, …) and joins its results.

    f returns tensors that begin with the member axis, or None. On a CPU there are as many blocks as torch has
    threads, each on one thread; elsewhere one block. Members do not see each other, so the result depends on
    the number of blocks by rounding only.
    """
    workers = min(torch.get_num_threads(), members) if device.type == "cpu" else 1
    if workers == 1:
        return lambda function, *stacks: function(*stacks)

    def mapped(function, *stacks):
        with one_main_thread():
            parts = list(_pool(workers, os.getpid()).map(function, *(stack.tensor_split(workers) for stack in stacks)))
            return tuple(None if results[0] is None else torch.cat(results) for results in zip(*parts))

    return mapped


def run_parts(work: Callable[[int], int], parts: int) -> list[int]:
    """[work(0), …, work(parts - 1)] side by side; part 0 in the calling thread."""
    others = [_pool(parts - 1, os.getpid()).submit(work, part) for part in range(1, parts)] if parts > 1 else []
    return [work(0), *(other.result() for other in others)]


@contextmanager
def one_main_thread() -> Iterator[None]:
    """Torch's own threads rest meanwhile: waiting for work they would keep the others from the cores.

    At the end torch has its number of threads again, also as the default for new threads, which those of the pool change.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@cache
def _pool(workers: int, process: int) -> ThreadPoolExecutor:
    """Threads that stay, one set for each process: after a fork the parent's are gone."""
    return ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))


def torch_device(name: str | None) -> torch.device:
    """The device of that name, "cpu", "cuda" or "cuda:0"; None is CUDA where there is one.

    Raises ValueError for a device that is unknown or that this machine does not have.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f'device is {name!r}: use "cpu", "cuda" or "cuda:0"')
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f'device is {name!r}, but this machine has no CUDA GPU that torch can use: use device="cpu"')
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise ValueError(f"device is {name!r}, but this machine has {torch.cuda.device_count()} CUDA GPUs")
    return device


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # parameters of glibc's mallopt(3)


def keep_freed_memory() -> bool:
    """Ask glibc to reuse freed blocks instead of returning them. True where that is possible.

    An element-wise product of 10 million floats takes 3.4 ms instead of 35 ms with it, because no
    page has to be mapped and cleared again (2 threads, x86-64). The process keeps its peak memory, and its threads
    share one heap.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 * 2**20), (_ARENA_MAX, 1))
    return all([mallopt(key, value) == 1 for key, value in settings])  # noqa: C419  (every setting is tried)
