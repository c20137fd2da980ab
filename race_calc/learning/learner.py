"""What a learning run needs of whoever learns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ase import Atoms


@dataclass(frozen=True)
class Lesson:
    """before, after: RMSE of the forces (eV/Å) on the structures that are held back, new ones among them, of the potential that it began
    with and of the one that has learned. notes: sentences for the user."""

    before: float
    after: float
    notes: tuple[str, ...] = ()

    @property
    def worse(self) -> bool:
        return not self.after <= self.before

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        before, after = (value if math.isfinite(value) else None for value in (self.before, self.after))
        return {"before": before, "after": after, "notes": self.notes}


class Learner(Protocol):
    """Any potential that can be trained further; `race_calc.learning.continual.RACELearner` is one."""

    def potential(self, folder: Path | None) -> Any:
        """The ASE calculator with predictions and thresholds that was learned in `folder`; None: the one to begin with."""

    def known(self, folder: Path | None) -> Sequence[Atoms]:
        """Structures with labels that it was trained on, or that it holds back; one of the training first."""

    def learn(self, labelled: Sequence[Path], before: Path | None, folder: Path) -> Lesson:
        """Train what was learned in `before` further with all these files, old ones among them, and keep it in `folder`.

        Raises ValueError where nothing in the files is new. Called again with the same arguments, as after a kill, it goes on; when it is
        done it gives back the same lesson.
        """
