"""The monitor on a running ASE dynamics or optimiser. Uses ASE."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from ase import units
from ase.optimize.sciopt import Converged, SciPyOptimizer

from race_calc.md.monitor import Criterion, MonitorState, Violation, decide, default_criteria, resolve
from race_calc.md.record import (
    MonitorRecord,
    annotate,
    append_frame,
    append_line,
    halting,
    json_line,
    monitored_images,
    record_line,
)
from race_calc.ood.scores import all_scores, available_criteria
from race_calc.uncertainty.predictor import thresholds_of

logger = logging.getLogger("race_calc.monitor")


class UncertaintyMonitor:
    """Watch the uncertainties of a run, and end it when they pass a threshold.

    >>> monitor = UncertaintyMonitor(dyn, logfile="monitor.jsonl")
    >>> dyn.run(10_000)
    >>> print(monitor.halt_reason)

    dynamics: an ASE dynamics or optimiser, also on a filter or a NEB, whose atoms have
    a `race_calc.RACECalculator` or another predictor; of a NEB every image with one is checked and the worst
    counts. criteria: None takes `default_criteria`. logfile: JSON lines, appended, one
    per checked step. flagged: extxyz file to which frames of a "flag" or "halt" are
    appended, None for none. interval: check every so many steps (`consecutive` counts
    checks). callback: called with the `MonitorRecord` of each checked step.

    The monitor runs ahead of a trajectory given to the constructor of the dynamics; the
    halting frame is its last. A halt sets ``dynamics.max_steps = 0``: `run` ends after
    this step. Calling `run` again goes on, with the counts of violations kept, and the
    frame at which it stopped is not judged again; while the score stays above the
    threshold each run thus makes one step. Optimisers with a loop of their own that reads
    neither (ASE's NEBOptimizer) are checked but not ended.

    Attributes: `criteria` (with numbers for "auto"), `state`, `record` (of the last
    check), `halt_reason` (a `Violation` that reads as a sentence, or None).

    One model evaluation is made on construction, to learn what the posterior gives; the
    calculator keeps it for the first step.

    Raises TypeError when dynamics is no ASE dynamics or the calculator has no
    predictions, ValueError for a wrong interval, for a criterion the posterior cannot
    give, and for "auto" without a threshold stored in the model.
    """

    def __init__(
        self,
        dynamics,
        criteria: Sequence[Criterion] | None = None,
        *,
        logfile: str | Path | None = None,
        flagged: str | Path | None = "flagged.xyz",
        interval: int = 1,
        callback: Callable[[MonitorRecord], None] | None = None,
    ):
        if not hasattr(dynamics, "insert_observer"):
            raise TypeError(
                "the monitor is attached to an ASE dynamics or optimiser (Langevin, BFGS, ...), "
                f"not to {type(dynamics).__name__}"
            )
        if interval < 1:
            raise ValueError(f"interval must be at least 1, got {interval}")
        _, atoms = monitored_images(dynamics)[0]
        available = available_criteria(atoms.calc.prediction(atoms), [atoms])
        thresholds = thresholds_of(atoms.calc)
        if criteria is None:
            criteria = default_criteria(available, thresholds)
        self.dynamics = dynamics
        self.criteria = resolve(criteria, available, thresholds)
        self.logfile = logfile
        self.flagged = flagged
        self.callback = callback
        self.state = MonitorState()
        self.record: MonitorRecord | None = None
        self.halt_reason: Violation | None = None
        self._started = False
        self._frame = None
        self._halting = False
        dynamics.insert_observer(self._check, 0, interval)
        if isinstance(dynamics, SciPyOptimizer):
            dynamics.attach(self._end_scipy, interval)

    def _end_scipy(self):
        if self._halting:  # SciPy's loop does not read max_steps; ASE catches this in run()
            raise Converged

    def _check(self):
        self._halting = False
        images = monitored_images(self.dynamics)
        if self._is_judged(images):
            return
        predictions = {image: atoms.calc.prediction(atoms) for image, atoms in images}
        atoms_of = dict(images)
        scores = {
            image: {name: _first(*value) for name, value in all_scores(p, [atoms_of[image]]).items()}
            for image, p in predictions.items()
        }
        worst = {name: max(scores, key=lambda image: _rank(scores[image][name][0])) for name in scores[images[0][0]]}
        worst_scores = {name: scores[image][name] for name, image in worst.items()}
        decision, self.state = decide(self.criteria, worst_scores, self.state, self.dynamics.nsteps)

        violations = tuple(_locate(v, worst[v.criterion], atoms_of) for v in decision.violations)
        decision = replace(decision, violations=violations)
        self.record = MonitorRecord(
            step=self.dynamics.nsteps,
            **_clock(self.dynamics, atoms_of),
            energy=max(float(p.energy[0]) for p in predictions.values()),
            scores={name: value for name, (value, _) in worst_scores.items()},
            decision=decision,
        )
        self.halt_reason = halting(decision)
        if self.halt_reason is not None:
            self._halting = True
            self.dynamics.max_steps = 0
            logger.warning("%s", self.halt_reason)
        self._write(atoms_of, predictions)
        if self.callback is not None:
            self.callback(self.record)

    def _is_judged(self, images) -> bool:
        """Whether this very frame was judged before: ASE repeats observers when resumed at step 0."""
        positions = [atoms.positions.copy() for _, atoms in images]
        cells = [atoms.cell.array.copy() for _, atoms in images]
        frame = (self.dynamics.nsteps, positions, cells)
        before, self._frame = self._frame, frame
        return (
            before is not None
            and before[0] == frame[0]
            and len(before[1]) == len(frame[1])
            and all(np.array_equal(a, b) for a, b in zip(before[1] + before[2], frame[1] + frame[2], strict=True))
        )

    def _write(self, atoms_of, predictions):
        if self.logfile is not None:
            if not self._started:
                start = {
                    "event": "start",
                    "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                    "dynamics": type(self.dynamics).__name__,
                    "criteria": [asdict(c) for c in self.criteria],
                }
                append_line(self.logfile, json_line(start))
                self._started = True
            append_line(self.logfile, record_line(self.record))
        if self.flagged is None:
            return
        acting = [v for v in self.record.decision.violations if v.action in ("flag", "halt")]
        for image in dict.fromkeys(v.image for v in acting):
            frame = annotate(atoms_of[image], predictions[image])
            frame.info["step"] = self.record.step
            frame.info["violations"] = " ".join(dict.fromkeys(v.criterion for v in acting if v.image == image))
            if image is not None:
                frame.info["image"] = image
            append_frame(self.flagged, frame)


def _first(values, atom_index):
    return float(values[0]), None if atom_index is None else int(atom_index[0])


def _rank(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _locate(violation: Violation, image: int | None, atoms_of) -> Violation:
    index = violation.atom_index
    element = None if index is None else atoms_of[image][index].symbol
    return replace(violation, image=image, element=element)


def _clock(dynamics, atoms_of) -> dict[str, float | None]:
    if not hasattr(dynamics, "get_time"):
        return {"time": None, "temperature": None}
    atoms = next(iter(atoms_of.values()))
    return {"time": float(dynamics.get_time() / units.fs), "temperature": float(atoms.get_temperature())}
