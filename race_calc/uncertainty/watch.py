"""The monitor's criteria on predictions as they come, for engines that bring dynamics of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from race_calc.uncertainty.decisions import Criterion, Decision, MonitorState, decide, default_criteria, resolve
from race_calc.uncertainty.prediction import Prediction
from race_calc.uncertainty.scores import all_scores, available_criteria

if TYPE_CHECKING:
    from ase import Atoms


class Watch:
    """`check` each prediction of one run in its order. criteria: None for `default_criteria`; `thresholds`: what "auto" stands for.

    Several structures at once, such as the beads of a ring polymer, are one check: the worst of them counts, as of the images of a NEB.

    The attribute `criteria` has them with numbers, from the first check on; `decision` is the last one.
    """

    def __init__(self, thresholds: Mapping[str, float], criteria: Sequence[Criterion] | None = None):
        self._thresholds, self._asked = thresholds, criteria
        self._state = MonitorState()
        self.criteria: tuple[Criterion, ...] | None = None
        self.decision = Decision()

    def check(self, prediction: Prediction, structures: Sequence["Atoms"], step: int) -> Decision:
        """What to do about the structures of a prediction; `image` of a violation is which of several.

        Raises ValueError as `resolve` and `default_criteria` do, at the first check.
        """
        if self.criteria is None:
            available = available_criteria(prediction, structures)
            wanted = default_criteria(available, self._thresholds) if self._asked is None else self._asked
            self.criteria = resolve(wanted, available, self._thresholds)
        scores, images = {}, {}
        for name, (values, atoms) in all_scores(prediction, structures).items():
            images[name] = worst = int(np.argmax(np.where(np.isfinite(values), values, np.inf)))
            scores[name] = float(values[worst]), None if atoms is None else int(atoms[worst])
        decision, self._state = decide(self.criteria, scores, self._state, step)
        if len(structures) > 1:
            decision = Decision(tuple(replace(v, image=images[v.criterion]) for v in decision.violations))
        self.decision = decision
        return decision
