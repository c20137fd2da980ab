"""Members of a stack side by side: on a CPU each thread takes some of them, which beats threads inside small products."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

MemberMap = Callable[..., tuple[Tensor | None, ...]]


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
