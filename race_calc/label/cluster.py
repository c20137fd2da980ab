"""The same work as `race_calc.label.parallel`, on a Dask cluster that runs already (extra `dask`). Its workers need this package."""

from collections import deque
from collections.abc import Callable, Generator
from typing import Any

from race_calc.data.files import shortened
from race_calc.label.parallel import Failure, guarded

AHEAD = 2  # pieces for each thread of the cluster that are handed out at once: none of them waits for the next


def over_cluster(work: Callable[[Any], Any], waiting: deque[Any], address: str) -> Generator[tuple[Any, Any], None, None]:
    """(piece, result) of each piece that waits, as they are done; a Failure in place of the result where there is none.

    A piece whose worker dies is tried again by the cluster, as often as that is set up to. Raises ValueError where Dask is missing, or
    nothing answers at `address`.
    """
    client = connected(address)
    running: dict[str, tuple[Any, Any]] = {}
    try:
        from distributed import as_completed

        completed = as_completed(loop=client.loop)
        while waiting or running:
            width = AHEAD * max(1, sum(client.nthreads().values()))  # workers come and go
            while waiting and len(running) < width:
                piece = waiting.popleft()
                future = client.submit(guarded, work, piece, pure=False)
                running[future.key] = (piece, future)
                completed.add(future)
            future = next(completed)
            piece, _ = running.pop(future.key)
            try:
                error = future.exception()
            except Exception as gone:  # of the cluster, not of the work
                raise ValueError(f"the cluster at {address} is gone ({type(gone).__name__}): the same command goes on from here") from gone
            yield piece, future.result() if error is None else Failure(shortened(f"{type(error).__name__}: {error}"))
    finally:
        client.cancel([future for _, future in running.values()])
        client.close()


def connected(address: str) -> Any:
    """A client of the cluster. Raises ValueError where Dask is missing, or nothing answers."""
    try:
        from distributed import Client
    except ImportError:
        raise ValueError("Dask is not installed: pip install race_calc[dask], or label without --dask") from None
    try:
        return Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"no Dask scheduler answers at {address} ({error}): look at the address, such as tcp://host:8786") from error
