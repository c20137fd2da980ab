"""A lesson, alone or beside the replicas that go on meanwhile. Uses other processes."""

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from race_calc.label.parallel import DIED, beside
from race_calc.learning.learner import Learner, Lesson


def check_travels(learner: Learner) -> None:
    """Raises TypeError for a learner that another process cannot be given."""
    try:
        pickle.dumps(learner)
    except Exception as error:  # whatever its parts raise
        raise TypeError(
            f"with several processes the learner learns in one of its own, and this one cannot be pickled ({error}): take processes=1, or "
            "functions with a name, not lambda"
        ) from error


def lesson(learner: Learner, labelled: Sequence[Path], before: Path | None, folder: Path, meanwhile: Callable[[], None] | None) -> Lesson:
    """`Learner.learn` in this process or, where there is something to do meanwhile, in another one on one thread.

    Raises what `learn` raises, and RuntimeError where its process died; what `meanwhile` raises is raised when the lesson is learned.
    """
    work = partial(learner.learn, labelled, before, folder)
    if meanwhile is None:
        return work()
    with beside(work) as result:
        try:
            meanwhile()
        except Exception:
            result.exception()  # waits
            raise
        try:
            return result.result()
        except BrokenProcessPool as error:
            raise RuntimeError(f"the lesson was not learned: {DIED}; the same call goes on with it") from error
