"""The monitor on a running ASE dynamics or optimiser. Uses ASE."""

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ase import Atoms

from race_calc.md.barostat import Limit, has_barostat, limit_in, renewed
from race_calc.md.dynamics import check_dynamics, complete_trajectory, ending
from race_calc.md.explain import explained
from race_calc.md.frames import check_appendable, save_flagged, tagged
from race_calc.md.images import Frame, Images, calculators_of, criteria_of, frame_of, model_hash, monitored_images, same_frame
from race_calc.md.journal import Journal, now
from race_calc.md.judge import STRUCTURE, Sight, judge, refusal
from race_calc.md.log import Line
from race_calc.md.record import MonitorRecord
from race_calc.md.saving import SavedFrames, Spacing
from race_calc.uncertainty.checks import whole
from race_calc.uncertainty.decisions import Criterion, MonitorState, Violation, accepted
from race_calc.uncertainty.prediction import Prediction
from race_calc.uncertainty.predictor import listen, stop_listening

logger = logging.getLogger("race_calc.monitor")


class UncertaintyMonitor:
    """Watch the uncertainties of a run, and end it when they pass a threshold.

    >>> monitor = UncertaintyMonitor(dyn, logfile="monitor.jsonl")  # doctest: +SKIP
    >>> dyn.run(10_000)  # doctest: +SKIP
    >>> print(monitor.halt_reason)  # doctest: +SKIP

    dynamics: an ASE dynamics or optimiser, also on a filter or a NEB, whose atoms have a calculator with predictions
    (`race_calc.RACECalculator`, `Committee`, `from_results`); of a NEB every image with one is checked and the worst counts, in the scores
    that all of them give. criteria: None takes `default_criteria`, with a barostat also `race_calc.md.barostat.pressure_criterion`.
    logfile: JSON lines, appended, which `race_calc.read_log` reads: every check with a violation and each `quiet`-th of the others.
    flagged: extxyz file to which frames of a "flag" or "halt" are appended, as far apart as `spacing` says, None for none; their labels are
    predictions, and training refuses them. interval: check every so many steps (`consecutive` counts checks); in between a posterior whose
    means cost less gives these alone, and the rest when it is asked for. callback: called with the `MonitorRecord` of each check.

    The monitor runs ahead of a trajectory given to the constructor of the dynamics; the halting frame is its last, whatever its
    `loginterval`. A halt sets ``dynamics.max_steps = 0``: `run` ends after this step. Calling `run` again goes on, with the counts of
    violations kept, and the frame at which it stopped is not judged again; while the score stays above the threshold each run thus makes
    one step: `accept` lets it go on. A structure that has exploded (numbers that are not finite, atoms closer than half of the sum of their
    covalent radii) halts at once; it is kept in `halting_frame` but not written to `flagged`. A structure that a calculator of this package
    refuses ends the run with the calculator's error; the halt is logged and kept first.

    Attributes: `criteria` (with numbers for "auto"; may be set between runs), `state`, `record` (of the last check), `halt_reason` (a
    `Violation` that reads as a sentence, or None), `halting_frame` (its structure, a copy with prediction and scores as
    `race_calc.md.record.annotate` gives them, or None), `run_id`.

    One evaluation of each calculator is made on construction, and kept for the first step. When `atoms.calc` is replaced during a run the
    thresholds become those of the new one, the counts start anew, and the log says so.

    Raises TypeError when dynamics is no ASE dynamics or one that does not call observers (BasinHopping), when the calculator has no
    predictions, and for arguments of another type; ValueError for a number below 1, for a criterion the posterior cannot give, for "auto"
    without a threshold stored in the model, and for images with different thresholds; FileNotFoundError, PermissionError or ValueError for
    a logfile or flagged file that cannot be written.
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
        check_dynamics(dynamics)
        interval, quiet = whole("interval", interval), whole("quiet", quiet)
        if callback is not None and not callable(callback):
            raise TypeError(f"callback must be a function of a MonitorRecord, got {callback!r}")
        check_appendable("logfile", logfile)
        check_appendable("flagged", flagged)
        self.dynamics, self.callback, self.logfile, self.flagged = dynamics, callback, logfile, flagged
        self.record: MonitorRecord | None = None
        self.halt_reason: Violation | None = None
        self.halting_frame: Atoms | None = None
        self._journal = Journal(logfile)
        self.run_id = self._journal.run_id
        self._interval, self._quiet, self._checks, self._silent = interval, quiet, 0, 0
        self._saved = SavedFrames(spacing)
        self._seen: dict[str, float] = {}  # largest scores since each was last below its thresholds
        self._halting, self._asked, self._recent = False, criteria, deque[MonitorRecord](maxlen=500)
        self._frame: Frame | None = None  # of the last check
        self._limit: Limit | None = None  # of the pressure, with a barostat
        images = monitored_images(dynamics)
        self._calculators, self._criteria, self.state = list[Any](), self._made(images), MonitorState()
        self._watch(calculators_of(images))
        dynamics.insert_observer(self._check, 0, interval)
        self._end = ending(dynamics)
        if self._end is not None:
            dynamics.attach(self._end_loop, interval)

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """The criteria in force. Setting them starts their counts anew; raises ValueError as the constructor does."""
        return self._criteria

    @criteria.setter
    def criteria(self, criteria: Sequence[Criterion] | None) -> None:
        before, self._asked = self._asked, criteria
        try:
            self._change(self._made(monitored_images(self.dynamics)), "set")
        except (TypeError, ValueError):
            self._asked = before
            raise

    def accept(self, checks: int | None = None) -> None:
        """Go on after a halt: this region is fine.

        The thresholds of the scores that were above theirs rise to the largest values seen; with `checks` they stay, and
        for so many checks nothing is flagged or halted. The log says which. Raises ValueError when there was no halt, for
        fewer than one check, and for a structure that has exploded or whose uncertainty is no number; TypeError for `checks` that
        are no whole number.
        """
        if self.halt_reason is None:
            raise ValueError("there is no halt to accept: call accept() when halt_reason is not None")
        numbers = [self.halt_reason.value, *self._seen.values()]
        if not all(map(math.isfinite, numbers)) or self.halt_reason.criterion == STRUCTURE:
            raise ValueError(f"this cannot be accepted ({self.halt_reason}): go back to an earlier frame")
        if checks is None:
            self._change(accepted(self._criteria, self._seen), "accepted")
        else:
            self._silent = whole("checks", checks)
            self._note("silent", checks=self._silent)
            self.state = MonitorState()
        self.halt_reason = self.halting_frame = None
        self._halting = False

    def explain(self) -> str:
        """Why the run was ended: atoms, distances, how the uncertainty grew, what to do. Raises ValueError when there was no halt."""
        return explained(self, self._recent)

    def detach(self) -> None:
        """Leave the run alone from now on; nothing of this monitor stays with the dynamics. Doing it again does nothing."""
        mine = (self._check, self._end_loop)
        kept = [entry for entry in self.dynamics.observers if entry[0] not in mine]
        if len(kept) < len(self.dynamics.observers):
            self.dynamics.observers = kept  # a new list: ASE may be going through the old one
            self._note("detach")
            self._watch([])

    def refused(self, atoms: Atoms, error: Exception) -> None:
        """A calculator tells that it will raise `error` for these atoms. Of a watched structure that is a halt, logged and kept now:
        the error ends the run before the next check. `step` is that of the last complete one."""
        images = monitored_images(self.dynamics)
        here = [image for image, one in images if one is atoms]
        frame = frame_of(self.dynamics.nsteps, images)
        if not here or same_frame(frame, self._frame):
            return
        self._frame = frame
        seen = Sight(self.dynamics, dict(images), {})
        self._keep(refusal(seen, here[0], error), seen)
        self._halt()

    def looks_at(self, atoms: Atoms | None) -> bool:
        """Whether what is predicted now will be checked, as far as anybody knows: all but the steps between two checks."""
        between = (self.dynamics.nsteps + hasattr(self.dynamics, "get_time")) % self._interval  # an optimiser counts its step first
        return not (between and any(atoms is image for _, image in monitored_images(self.dynamics)))

    def _watch(self, calculators: list[Any]) -> None:
        for calculator in self._calculators:
            stop_listening(calculator, self)
        self._calculators = calculators
        for calculator in calculators:
            listen(calculator, self)

    def _made(self, images: Images) -> tuple[Criterion, ...]:
        """The criteria that were asked for, or the default, with numbers."""
        barostat = self._asked is None and has_barostat(self.dynamics)
        criteria = criteria_of(images, self._asked, barostat)
        self._limit = limit_in(criteria, images[0][1]) if barostat else None
        return criteria

    def _change(self, criteria: tuple[Criterion, ...], why: str) -> None:
        self._criteria, self.state, self._seen = criteria, MonitorState(), {}
        self._note("criteria", why=why, model=model_hash(self._calculators), criteria=[asdict(c) for c in criteria])

    def _end_loop(self) -> None:
        if self._halting and self._end is not None:
            raise self._end(f"the monitor ended the run: {self.halt_reason}")

    def _check(self) -> None:
        self._halting = False
        images = monitored_images(self.dynamics)
        frame = frame_of(self.dynamics.nsteps, images)
        if same_frame(frame, self._frame):
            return
        now = calculators_of(images)
        if len(now) != len(self._calculators) or any(a is not b for a, b in zip(now, self._calculators)):
            criteria = self._made(images)  # where it is refused, the next run refuses it again
            self._watch(now)
            self._change(criteria, "another calculator")
        seen = Sight(self.dynamics, dict(images), self._predictions(images))
        if self._limit is not None:
            self._limit, self._criteria = renewed(self._limit, self._criteria, images[0][1])
        record, self.state = judge(seen, self._criteria, self.state, self._silent > 0)
        self._frame, self._silent = frame, max(self._silent - 1, 0)  # judged now, not before: an error above leaves it to be judged
        above = {v.criterion: v.value for v in record.decision.violations}
        self._seen = {name: max(value, self._seen.get(name, value)) for name, value in above.items()}
        self._keep(record, seen)
        if self.callback is not None:
            self.callback(record)
        if self.halt_reason is not None:  # still, after a callback that may have accepted it
            self._halt()
            complete_trajectory(self.dynamics)

    def _predictions(self, images: Images) -> dict[int | None, Prediction]:
        predictions = {}
        for image, atoms in images:
            try:
                predictions[image] = atoms.calc.prediction(atoms)
            except ValueError as error:
                self.refused(atoms, error)  # once more, where the calculator told it itself: that changes nothing
                raise
        return predictions

    def _halt(self) -> None:
        self._halting = True
        self.dynamics.max_steps = 0

    def _keep(self, record: MonitorRecord, seen: Sight) -> None:
        """The record, its reason to halt and its frames, in memory and in the files."""
        self.record, self.halt_reason, self.halting_frame = record, record.decision.halting, None
        self._recent.append(record)
        if self.halt_reason is not None:
            logger.warning("%s", self.halt_reason)
            self.halting_frame = tagged(record, seen, self.halt_reason.image, self.run_id)
        if record.decision.violations or self._checks % self._quiet == 0:
            self._append(record.line())
        self._checks += 1
        if self.flagged is not None:
            save_flagged(self.flagged, self._saved, record, seen, self.run_id)

    def _note(self, event: str, **content: Any) -> None:
        self._append({"event": event, "step": self.dynamics.nsteps, "date": now(), **content})

    def _append(self, line: Line) -> None:
        watched = {"dynamics": type(self.dynamics).__name__, "criteria": [asdict(c) for c in self._criteria]}
        self._journal.append(line, {"model": model_hash(self._calculators), **watched})
