"""The monitor's criteria on predictions as they come, for engines that bring dynamics of their own."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from race_calc.uncertainty.decisions import Criterion, Decision, MonitorState, decide, default_criteria, resolve
from race_calc.uncertainty.prediction import Prediction
from race_calc.uncertainty.scores import all_scores

if TYPE_CHECKING:
    from ase import Atoms


class Watch:
    """`check` each prediction of one run in its order. criteria: None for `default_criteria`; `thresholds`: what "auto" stands for.

    Criteria that a structure does not have, such as of the pressure of a molecule, are left out for it. Where the default has nothing to
    watch, or no thresholds, a warning says so, and nothing is watched. Several structures at once, such as the beads of a ring polymer,
    are one check: the worst of them counts, as of the images of a NEB.

    The attribute `criteria` has them with numbers, from the first check on; `decision` is the last one.
    """

    def __init__(self, thresholds: Mapping[str, float], criteria: Sequence[Criterion] | None = None):
        self._thresholds, self._asked = thresholds, criteria
        self._state, self._warned = MonitorState(), False
        self.criteria: tuple[Criterion, ...] = ()
        self._available: tuple[str, ...] | None = None
        self.decision = Decision()

    def check(self, prediction: Prediction, structures: Sequence["Atoms"], step: int) -> Decision:
        """What to do about the structures of a prediction; `image` of a violation is which of several.

        Raises ValueError as `resolve` does for criteria that were given, where they cannot be told.
        """
        told = all_scores(prediction, structures)
        if (available := tuple(told)) != self._available:
            counts = dict(zip(self.criteria, self._state.in_a_row))
            self._available, self.criteria = available, self._resolved(available)
            self._state = MonitorState(tuple(counts.get(criterion, 0) for criterion in self.criteria))
        scores, images = {}, {}
        for name, (values, atoms) in told.items():
            images[name] = worst = int(np.argmax(np.where(np.isfinite(values), values, np.inf)))
            scores[name] = float(values[worst]), None if atoms is None else int(atoms[worst])
        decision, self._state = decide(self.criteria, scores, self._state, step)
        if len(structures) > 1:
            decision = Decision(tuple(replace(v, image=images[v.criterion]) for v in decision.violations))
        self.decision = decision
        return decision

    def _resolved(self, available: tuple[str, ...]) -> tuple[Criterion, ...]:
        if self._asked is not None:
            return resolve(self._asked, available, self._thresholds)
        try:
            return resolve(default_criteria(available, self._thresholds), available, self._thresholds)
        except ValueError as error:
            if not self._warned:
                warnings.warn(f"nothing is watched: {error}", stacklevel=4)
            self._warned = True
            return ()
