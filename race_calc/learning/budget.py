"""When a learning run ends, and what is told of it: decisions on what it has used, nothing else."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from race_calc.learning.notebook import LEARN, Notebook
from race_calc.uncertainty.checks import whole

WORSE = 2  # rounds in a row that taught nothing, and the run ends


@dataclass(frozen=True)
class Budget:
    """What a run may use: labels, those of failed attempts among them; minutes, of all its processes together; rounds.

    Raises ValueError for none of one of them, TypeError for parts of a label or a round.
    """

    labels: int = 300
    minutes: float = math.inf
    rounds: int = 100

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"a budget of {value} {name} teaches nothing: give more, or take UncertaintyMonitor alone")
        whole("the budget of labels", self.labels)
        whole("the budget of rounds", self.rounds)


@dataclass(frozen=True)
class Outcome:
    """Why the run ended, in words; steps of each replica, labels bought, rounds, the last potential and its folder (None: as it began)."""

    reason: str
    steps: tuple[int, ...]
    labels: int
    rounds: int
    potential: Any
    folder: Path | None


def used_up(book: Notebook, budget: Budget, seconds: float, labelled: bool) -> str | None:
    """What is used up, in words, or None. `labelled`: the structures of this round have labels already."""
    if book.rejected >= WORSE:
        return f"{WORSE} rounds in a row taught nothing: no new structures, or larger errors on held-back ones"
    if seconds > 60 * budget.minutes:
        return f"the budget of {budget.minutes:g} minutes is used up"
    if book.phase != LEARN:
        return None
    if book.number > budget.rounds:
        return f"the budget of {budget.rounds} rounds is used up"
    if book.labels >= budget.labels and not labelled:
        return f"the budget of {budget.labels} labels is used up"
    return None
