"""The monitor on a running ASE dynamics or optimiser. Uses ASE."""

import logging
import math
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.optimize.sciopt import Converged, SciPyOptimizer

from race_calc.md.judge import STRUCTURE, Sight, judge
from race_calc.md.log import LOG_VERSION, Line, append_line, json_line
from race_calc.md.record import MonitorRecord, annotate, append_frame, monitored_images
from race_calc.md.saving import SavedFrames, Spacing
from race_calc.uncertainty.decisions import Criterion, MonitorState, Violation, accepted, default_criteria, resolve
from race_calc.uncertainty.prediction import Prediction
from race_calc.uncertainty.predictor import thresholds_of
from race_calc.uncertainty.scores import available_criteria

logger = logging.getLogger("race_calc.monitor")
Images = list[tuple[int | None, Atoms]]
Frame = tuple[int, list[np.ndarray]]  # step, positions and cells of the images


class UncertaintyMonitor:
    """Watch the uncertainties of a run, and end it when they pass a threshold.

    >>> monitor = UncertaintyMonitor(dyn, logfile="monitor.jsonl")  # doctest: +SKIP
    >>> dyn.run(10_000)  # doctest: +SKIP
    >>> print(monitor.halt_reason)  # doctest: +SKIP

    dynamics: an ASE dynamics or optimiser, also on a filter or a NEB, whose atoms have
    a calculator with predictions (`race_calc.RACECalculator`, `Committee`, `from_results`); of a NEB every image with
    one is checked and the worst counts. criteria: None takes `default_criteria`. logfile: JSON lines, appended, which
    `race_calc.read_log` reads: every check with a violation and each `quiet`-th of the others. flagged: extxyz file to
    which frames of a "flag" or "halt" are appended, as far apart as `spacing` says, None for none; their labels are
    predictions, and training refuses them. interval: check every so many steps (`consecutive` counts
    checks). callback: called with the `MonitorRecord` of each check.

    The monitor runs ahead of a trajectory given to the constructor of the dynamics; the
    halting frame is its last. A halt sets ``dynamics.max_steps = 0``: `run` ends after
    this step. Calling `run` again goes on, with the counts of violations kept, and the
    frame at which it stopped is not judged again; while the score stays above the
    threshold each run thus makes one step: `accept` lets it go on. A structure that has exploded (numbers that are not
    finite, atoms closer than half of the sum of their covalent radii) halts at once and is not saved. Optimisers with a
    loop of their own that reads neither (ASE's NEBOptimizer) are checked but not ended.

    Attributes: `criteria` (with numbers for "auto"; may be set between runs), `state`, `record` (of the last
    check), `halt_reason` (a `Violation` that reads as a sentence, or None), `run_id`.

    One model evaluation is made on construction, to learn what the posterior gives; the
    calculator keeps it for the first step. When `atoms.calc` is replaced during a run the thresholds become those of the new
    calculator, the counts start anew, and the log says so.

    Raises TypeError when dynamics is no ASE dynamics or the calculator has no
    predictions, ValueError for a wrong interval, for a criterion the posterior cannot
    give, and for "auto" without a threshold stored in the model.
    """

    def __init__(
        self,
        dynamics: Any,
        criteria: Sequence[Criterion] | None = None,
        *,
        logfile: str | Path | None = None,
        flagged: str | Path | None = "flagged.xyz",
        interval: int = 1,
        callback: Callable[[MonitorRecord], None] | None = None,
        quiet: int = 10,
        spacing: Spacing = Spacing(),  # noqa: B008  (frozen)
    ):
        if not hasattr(dynamics, "insert_observer"):
            raise TypeError(
                f"the monitor is attached to an ASE dynamics or optimiser (Langevin, BFGS, ...), not to {type(dynamics).__name__}"
            )
        for name, value in (("interval", interval), ("quiet", quiet)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.dynamics = dynamics
        self.logfile = logfile
        self.flagged = flagged
        self.callback = callback
        self.run_id = f"r{uuid.uuid4().hex[:12]}"  # a letter, or extxyz reads some ids as numbers
        self.record: MonitorRecord | None = None
        self.halt_reason: Violation | None = None
        self._quiet, self._checks, self._silent = quiet, 0, 0
        self._saved = SavedFrames(spacing)
        self._seen: dict[str, float] = {}  # largest scores since each was last below its thresholds
        self._started = self._halting = False
        self._frame: Frame | None = None  # of the last check
        self._asked = criteria
        images = monitored_images(dynamics)
        self._calculators = _calculators(images)
        self._criteria, self.state = self._resolved(images), MonitorState()
        dynamics.insert_observer(self._check, 0, interval)
        if isinstance(dynamics, SciPyOptimizer):
            dynamics.attach(self._end_scipy, interval)

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """The criteria in force. Setting them starts their counts anew; raises ValueError as the constructor does."""
        return self._criteria

    @criteria.setter
    def criteria(self, criteria: Sequence[Criterion] | None) -> None:
        self._asked = criteria
        self._change(self._resolved(monitored_images(self.dynamics)), "set")

    def accept(self, checks: int | None = None) -> None:
        """Go on after a halt: this region is fine.

        The thresholds of the scores that were above theirs rise to the largest values seen; with `checks` they stay, and
        for so many checks nothing is flagged or halted. The log says which. Raises ValueError when there was no halt, for
        fewer than one check, and for a structure that has exploded or whose uncertainty is no number.
        """
        if self.halt_reason is None:
            raise ValueError("there is no halt to accept: call accept() when halt_reason is not None")
        numbers = [self.halt_reason.value, *self._seen.values()]
        if not all(map(math.isfinite, numbers)) or self.halt_reason.criterion == STRUCTURE:
            raise ValueError(f"this cannot be accepted ({self.halt_reason}): go back to an earlier frame")
        if checks is None:
            self._change(accepted(self._criteria, self._seen), "accepted")
        elif checks < 1:
            raise ValueError(f"checks must be at least 1, got {checks}")
        else:
            self._silent = checks
            self._note("silent", checks=checks)
            self.state = MonitorState()
        self.halt_reason = None
        self._halting = False

    def detach(self) -> None:
        """Leave the run alone from now on; nothing of this monitor stays with the dynamics. Doing it again does nothing."""
        mine = (self._check, self._end_scipy)
        kept = [entry for entry in self.dynamics.observers if entry[0] not in mine]
        if len(kept) < len(self.dynamics.observers):
            self.dynamics.observers = kept  # a new list: ASE may be going through the old one
            self._note("detach")

    def _resolved(self, images: Images) -> tuple[Criterion, ...]:
        _, atoms = images[0]
        available = available_criteria(atoms.calc.prediction(atoms), [atoms])
        thresholds = thresholds_of(atoms.calc)
        return resolve(default_criteria(available, thresholds) if self._asked is None else self._asked, available, thresholds)

    def _change(self, criteria: tuple[Criterion, ...], why: str) -> None:
        self._criteria, self.state, self._seen = criteria, MonitorState(), {}
        self._note("criteria", why=why, model=_model_hash(self._calculators), criteria=[asdict(c) for c in criteria])

    def _end_scipy(self) -> None:
        if self._halting:  # SciPy's loop does not read max_steps; ASE catches this in run()
            raise Converged

    def _check(self) -> None:
        self._halting = False
        images = monitored_images(self.dynamics)
        frame = self._frame_of(images)
        if _same_frame(frame, self._frame):
            return
        now = _calculators(images)
        if len(now) != len(self._calculators) or any(a is not b for a, b in zip(now, self._calculators)):
            criteria = self._resolved(images)  # first: where it is refused, the next run refuses it again
            self._calculators = _calculators(images)
            self._change(criteria, "another calculator")
        predictions = {image: atoms.calc.prediction(atoms) for image, atoms in images}
        record, self.state = judge(Sight(self.dynamics, dict(images), predictions), self._criteria, self.state, self._silent > 0)
        self._frame, self._silent = frame, max(self._silent - 1, 0)  # judged now, not before: an error above leaves it to be judged
        above = {v.criterion: v.value for v in record.decision.violations}
        self._seen = {name: max(value, self._seen.get(name, value)) for name, value in above.items()}
        self.record, self.halt_reason = record, record.decision.halting
        if self.halt_reason is not None:
            logger.warning("%s", self.halt_reason)
        self._write(record, dict(images), predictions)
        if self.callback is not None:
            self.callback(record)
        if self.halt_reason is not None:  # still, after a callback that may have accepted it
            self._halting = True
            self.dynamics.max_steps = 0

    def _frame_of(self, images: Images) -> Frame:
        return self.dynamics.nsteps, [a for _, atoms in images for a in (atoms.positions.copy(), atoms.cell.array.copy())]

    def _write(self, record: MonitorRecord, atoms_of: dict[int | None, Atoms], predictions: dict[int | None, Prediction]) -> None:
        if record.decision.violations or self._checks % self._quiet == 0:
            self._append(record.line())
        self._checks += 1
        if self.flagged is None:
            return
        broken = {v.image for v in record.decision.violations if v.criterion == STRUCTURE}
        for image in dict.fromkeys(v.image for v in record.decision.acting):
            here = [v for v in record.decision.acting if v.image == image]
            halts = any(v.action == "halt" for v in here)
            if image in broken or not self._saved.admit(image, atoms_of[image], record.time, always=halts):
                continue
            frame = annotate(atoms_of[image], predictions[image])
            frame.info |= {
                "step": record.step,
                "run": self.run_id,
                "date": _now(),
                "violations": " ".join(dict.fromkeys(v.criterion for v in here)),
            }
            known = {"time_fs": record.time, "image": image, "model": _model_hash(self._calculators)}
            frame.info |= {name: value for name, value in known.items() if value is not None}
            append_frame(self.flagged, frame)

    def _note(self, event: str, **content: Any) -> None:
        self._append({"event": event, "step": self.dynamics.nsteps, "date": _now(), **content})

    def _append(self, line: Line) -> None:
        if self.logfile is None:
            return
        if not self._started:
            self._started = True
            self._append(
                {
                    "event": "start",
                    "version": LOG_VERSION,
                    "model": _model_hash(self._calculators),
                    "date": _now(),
                    "dynamics": type(self.dynamics).__name__,
                    "criteria": [asdict(c) for c in self._criteria],
                }
            )
        append_line(self.logfile, json_line({"event": line["event"], "run": self.run_id, **line}))


def _same_frame(frame: Frame, before: Frame | None) -> bool:
    """Whether this very frame was judged before: ASE repeats observers when resumed at step 0."""
    if before is None or before[0] != frame[0] or len(before[1]) != len(frame[1]):
        return False
    return all(np.array_equal(a, b) for a, b in zip(before[1], frame[1], strict=True))


def _calculators(images: Images) -> list[Any]:
    return [atoms.calc for _, atoms in images]


def _model_hash(calculators: list[Any]) -> str | None:
    """Of the potential, where it tells one (`model_hash`)."""
    return getattr(calculators[0], "model_hash", None)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
