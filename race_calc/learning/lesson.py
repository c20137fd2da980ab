"""A lesson, alone or beside the replicas that go on meanwhile. Uses other processes."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from race_calc.label.parallel import beside
from race_calc.learning.learner import Learner, Lesson


def lesson(learner: Learner, labelled: Sequence[Path], before: Path | None, folder: Path, meanwhile: Callable[[], None] | None) -> Lesson:
    """`Learner.learn` in this process or, where there is something to do meanwhile, in another one on one thread.

    Raises what `learn` raises; what `meanwhile` raises ends the lesson, which goes on when it is called again.
    """
    work = partial(learner.learn, labelled, before, folder)
    if meanwhile is None:
        return work()
    with beside(work) as result:
        meanwhile()
        return result.result()
