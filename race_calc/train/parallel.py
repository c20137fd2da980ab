"""Members of a stack side by side: on a CPU each thread takes some of them, which beats threads inside small products."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

MemberMap = Callable[[Callable[[Tensor], tuple[Tensor, ...]], Tensor], tuple[Tensor, ...]]


@contextmanager
def member_threads(members: int, device: torch.device) -> Iterator[MemberMap]:
    """A function `map(f, weights)` that applies f to row blocks of weights (M, D) and joins its results.

    f returns tensors that begin with the member axis. On a CPU there are as many blocks as torch has
    threads, each on one thread; elsewhere one block. Members do not see each other, so the result depends on
    the number of blocks by rounding only.
    """
    threads = torch.get_num_threads()
    workers = min(threads, members) if device.type == "cpu" else 1
    if workers == 1:
        yield lambda function, weights: function(weights)
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:

            def mapped(function, weights):
                parts = list(pool.map(function, weights.tensor_split(workers)))
                return tuple(torch.cat(results) for results in zip(*parts))

            yield mapped
    finally:
        torch.set_num_threads(threads)
