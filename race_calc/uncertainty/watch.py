"""The monitor's criteria on predictions as they come, for engines that bring dynamics of their own."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from race_calc.uncertainty.decisions import Criterion, Decision, MonitorState, decide, default_criteria, resolve
from race_calc.uncertainty.prediction import Prediction
from race_calc.uncertainty.scores import available_criteria, scores_of_one

if TYPE_CHECKING:
    from ase import Atoms


class Watch:
    """`check` each prediction of one run in its order. criteria: None for `default_criteria`; `thresholds`: what "auto" stands for.

    The attribute `criteria` has them with numbers, from the first check on; `decision` is the last one.
    """

    def __init__(self, thresholds: Mapping[str, float], criteria: Sequence[Criterion] | None = None):
        self._thresholds, self._asked = thresholds, criteria
        self._state = MonitorState()
        self.criteria: tuple[Criterion, ...] | None = None
        self.decision = Decision()

    def check(self, prediction: Prediction, atoms: "Atoms", step: int) -> Decision:
        """What to do about one structure. Raises ValueError as `resolve` and `default_criteria` do, at the first check."""
        if self.criteria is None:
            available = available_criteria(prediction, [atoms])
            wanted = default_criteria(available, self._thresholds) if self._asked is None else self._asked
            self.criteria = resolve(wanted, available, self._thresholds)
        self.decision, self._state = decide(self.criteria, scores_of_one(prediction, atoms), self._state, step)
        return self.decision
