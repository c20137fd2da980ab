"""Runs that learn: the monitor halts, the run goes back, labels are bought, the potential learns, the run goes on. Uses ASE.

A round: every replica makes a turn. One that its monitor halts goes back to its last safe frame and waits. When all have had their turn
and one waits, a few of the frames that the monitors flagged are chosen, unlike each other and what is known; the reference labels them,
the learner learns, and all go on with what it has learned and its thresholds. What makes the errors on held-back structures larger
is kept out. With several processes the replicas that do not wait make MEANWHILE turns more while the learner learns, always as many: the
run does not depend on how long a lesson takes.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from race_calc.data.hashes import geometry_hash
from race_calc.data.lock import locked
from race_calc.label.file import IN_THIS_PROCESS
from race_calc.learning.budget import WORSE, Budget, Outcome, used_up
from race_calc.learning.choice import chosen
from race_calc.learning.learner import Learner
from race_calc.learning.lesson import check_travels, lesson
from race_calc.learning.notebook import EXPLORE, LEARN, Notebook, read_notebook
from race_calc.learning.reference import check_reference, reference_of
from race_calc.learning.replica import Replica, separate
from race_calc.learning.round import CHOSEN, Round
from race_calc.uncertainty.checks import whole
from race_calc.uncertainty.decisions import Criterion

LABELS_A_ROUND = 10
TURN = 1000  # steps
MEANWHILE = 5  # turns of a replica that does not wait, beside a lesson
LOCK = "learning.lock"


class OnTheFly:
    """Let a potential learn where its runs no longer know.

    >>> learner = RACELearner("runs/first", data="data")  # doctest: +SKIP
    >>> learning = OnTheFly(dyn, "gfn2-xtb", learner, folder="runs/learned")  # doctest: +SKIP
    >>> print(learning.run(100_000).reason)  # doctest: +SKIP

    dynamics: one ASE molecular dynamics or several, each with its own atoms; their calculators are set here. reference: the method that
    labelled the training data, an ASE calculator, a name (`race_calc.label.methods`), or "elsewhere": then `run` ends where labels are
    needed. learner: see `race_calc.learning.learner`. folder: all that the run does; where one has begun there, this one goes on with
    it, from dynamics made as they were made before, and makes the same steps. criteria: of the monitors, None for the default.
    processes: that label at once. With one, all is done in this process. Several need a script with a guard
    `if __name__ == "__main__":`; they also learn beside the replicas that do not wait, from a learner that can be pickled.
    `report`: called with (event, content) for each halt, each round and each turn.

    The first label is of a structure of the training, to see whether the reference is the one that it is to be.

    Raises TypeError for what is no molecular dynamics, ValueError for dynamics that share atoms or random numbers (give each an `rng`),
    and for an unknown reference.
    """

    def __init__(
        self,
        dynamics: Any,
        reference: Any,
        learner: Learner,
        folder: str | Path,
        *,
        criteria: Sequence[Criterion] | None = None,
        budget: Budget = Budget(),  # noqa: B008  (frozen)
        labels_a_round: int = LABELS_A_ROUND,
        processes: int = 1,
        report: Callable[[str, dict[str, Any]], None] = lambda *_: None,
    ):
        self._dynamics = separate(dynamics)
        self.reference, self.learner, self.folder = reference_of(reference), learner, Path(folder)
        self.budget, self._n, self._report = budget, whole("labels_a_round", labels_a_round), report
        self._processes = IN_THIS_PROCESS if whole("processes", processes) == 1 else processes
        if self._processes != IN_THIS_PROCESS and len(self._dynamics) > 1:
            check_travels(learner)
        self._criteria, self._used = criteria, False  # used: the dynamics are no longer as they were made
        self._book = read_notebook(self.folder) or Notebook()
        self._replicas: list[Replica] = []
        self._since, self._told = 0.0, len(self._book.history)

    @property
    def history(self) -> tuple[dict[str, Any], ...]:
        """A line for each halt and each round."""
        return self._book.history

    def run(self, steps: int, quiet: int | None = None) -> Outcome:
        """Until every replica has made so many steps, or all together `quiet` steps since labels were last asked for, or a budget is
        used up, or two rounds in a row taught nothing. Killed at any moment, the same call goes on; after an end it begins to count
        quiet steps and such rounds anew.

        Raises ValueError for a reference that is another one than that of the training, or that fails on all structures of a round:
        what was done is kept, and the next call tries again. ValueError also for a folder whose run had other dynamics, and
        for files of labels from elsewhere in which nothing is new.
        """
        steps, limit = whole("steps", steps), math.inf if quiet is None else whole("quiet", quiet)
        self._since = time.monotonic()
        with locked(self.folder, LOCK):
            try:
                self._begin(limit)
                while (reason := self._ended(steps, limit)) is None:
                    if self._book.phase == LEARN:
                        self._learn(steps)
                    else:
                        self._explore(steps)
            finally:
                for replica in self._replicas:
                    replica.leave()
        self._report("end", {"reason": reason})
        book = self._book
        return Outcome(reason, tuple(r.steps for r in self._replicas), book.labels, book.number - 1, self._potential, self._base)

    def _begin(self, quiet: float) -> None:
        """Replicas with the last potential, where they were."""
        book = read_notebook(self.folder) or Notebook()  # another process may have gone on
        if book.replicas and len(book.replicas) != len(self._dynamics):
            raise ValueError(f"{self.folder} holds a run of {len(book.replicas)} replicas, {len(self._dynamics)} are given")
        if book.rejected >= WORSE or book.quiet >= quiet:
            book = replace(book, rejected=0, quiet=0)
        self._book = self._checked(book)
        self._potential = self.learner.potential(self._base)
        self._replicas, as_made, self._used = [], not self._used, True
        for k, (dynamics, state) in enumerate(zip(self._dynamics, book.replicas or (None,) * len(self._dynamics))):
            dynamics.atoms.calc = self._potential
            logfile = self.folder / f"monitor-{k}.jsonl"
            self._replicas.append(Replica(k, dynamics, self._criteria, logfile, state, as_made))
        self._save()

    def _checked(self, book: Notebook) -> Notebook:
        """After a label of a structure of the training, where this reference has not made one yet."""
        told = None if self.reference is None else f"{self.reference.name} ({self.reference.code()})"
        if self.reference is None or told == book.reference or not (known := self.learner.known(None)):
            return book
        book = replace(book, labels=book.labels + 1)
        book.write(self.folder)  # it is bought, whatever it shows
        check_reference(known[0], self.reference, self.folder / "reference-check.xyz")
        return replace(book, reference=told)

    def _ended(self, steps: int, quiet: float) -> str | None:
        book, now = self._book, self._round
        if reason := used_up(book, self.budget, self._seconds(), now.labelled.exists()):
            return reason
        if book.phase == LEARN:
            asks = self.reference is None and not now.labelled.exists() and now.choose(self._choice)
            return f"label {now.path / CHOSEN} as {now.labelled} and call this again" if asks else None
        if all(replica.steps >= steps for replica in self._replicas):
            return f"every replica has made {steps} steps"
        waiting = any(replica.waiting for replica in self._replicas)
        return f"no label was asked for in {book.quiet} steps" if book.quiet >= quiet and not waiting else None

    def _explore(self, steps: int) -> None:
        """A turn of a replica; after that of the last one a round, if one waits."""
        self._turn(steps, self._round)
        if self._book.turn % len(self._replicas) == 0 and any(r.waiting for r in self._replicas):
            self._book = replace(self._book, phase=LEARN)
        self._save()

    def _meanwhile(self, steps: int) -> None:
        """Turns beside a lesson, for the round after it. On the disk only with the lesson: a kill begins both again. They are no quiet
        steps: whoever made them has not what is learned."""
        for _ in range(MEANWHILE * len(self._replicas)):
            self._turn(steps, Round(self.folder, self._book.number + 1))
        self._book = replace(self._book, quiet=0)

    def _turn(self, steps: int, collecting: Round) -> None:
        """Of the replica whose turn it is, where it neither waits nor is at its end."""
        k = self._book.turn % len(self._replicas)
        replica, halt = self._replicas[k], None
        before = replica.steps
        if not replica.waiting and before < steps:
            halt = replica.turn(min(TURN, steps - before))
            collecting.collect(self._book.turn, replica.candidates)
        made = (halt.step if halt else replica.steps) - before
        self._book = replace(self._book, turn=self._book.turn + 1, quiet=0 if halt else self._book.quiet + made)
        if halt is not None:
            self._note("halt", **vars(halt))
        self._report("turn", {"replica": k, "steps": replica.steps, "of": steps})

    def _learn(self, steps: int) -> None:
        """Choose, label, learn: each is on the disk before the next begins."""
        now, times = self._round, [time.monotonic()]
        labels = len(now.choose(self._choice))
        times.append(time.monotonic())
        self._label(now, labels)
        times.append(time.monotonic())
        bought = [path for number in range(1, now.number + 1) if (path := Round(self.folder, number).labelled).exists()]
        free = self._processes != IN_THIS_PROCESS and any(not r.waiting and r.steps < steps for r in self._replicas)
        meanwhile = partial(self._meanwhile, steps) if free else None
        Round(self.folder, now.number + 1).forget()  # what turns beside this lesson left before a kill
        learned = lesson(self.learner, bought, self._base, now.model, meanwhile) if labels else None
        times.append(time.monotonic())
        kept = learned is not None and not learned.worse
        book = replace(self._book, number=now.number + 1, phase=EXPLORE, labels=self._book.labels + labels)
        self._book = replace(book, rejected=0 if kept else book.rejected + 1)
        if kept:
            self._book = replace(self._book, model=str(now.model.relative_to(self.folder)))
            self._potential = self.learner.potential(self._base)
        for replica in self._replicas:
            replica.learned(self._potential)
        times.append(time.monotonic())
        seconds = dict(zip(("choose", "label", "learn", "go_on"), np.diff(times).tolist()))
        told = {} if learned is None else learned.told()
        self._note("round", number=now.number, labels=labels, kept=kept, seconds=seconds, **told)
        self._save()

    def _label(self, now: Round, labels: int) -> None:
        if self.reference is None:
            return
        try:
            now.label(self.reference, self._processes)
        except ValueError:  # of all structures: they were bought, too
            self._book = replace(self._book, labels=self._book.labels + labels)
            self._save()
            raise

    def _choice(self) -> list[Atoms]:
        candidates = self._round.candidates() or [replica.nearest() for replica in self._replicas if replica.waiting]
        known = list(self.learner.known(self._base))
        earlier = [atoms for number in range(1, self._book.number) for atoms in Round(self.folder, number).chosen() or []]
        n = min(self._n, self.budget.labels - self._book.labels)
        return chosen(self._potential, candidates, known, {*map(geometry_hash, [*known, *earlier])}, n)

    @property
    def _round(self) -> Round:
        return Round(self.folder, self._book.number)

    @property
    def _base(self) -> Path | None:
        return None if self._book.model is None else self.folder / self._book.model

    def _seconds(self) -> float:
        return self._book.seconds + time.monotonic() - self._since

    def _note(self, event: str, **content: Any) -> None:
        self._book = self._book.noted(event=event, **content)

    def _save(self) -> None:
        now = self._seconds()
        self._since = time.monotonic()
        self._book = replace(self._book, seconds=now, replicas=tuple(replica.state() for replica in self._replicas))
        self._book.write(self.folder)
        for line in self._book.history[self._told :]:
            self._report(line["event"], line)
        self._told = len(self._book.history)
