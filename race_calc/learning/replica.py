"""One trajectory that explores: where it was safe, which of its frames are worth a label, and how it goes back. Uses ASE."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from race_calc.label.frame import bare
from race_calc.md.attach import UncertaintyMonitor
from race_calc.md.counts import counts_of, put_counts
from race_calc.md.judge import STRUCTURE
from race_calc.md.record import MonitorRecord
from race_calc.md.saving import SavedFrames, Spacing
from race_calc.md.snapshot import Snapshot, draw, other_settings, plain, put, share_random_numbers, steps_of, take
from race_calc.uncertainty.decisions import GAP, Criterion, MonitorState, Violation

APART = 100  # steps between the safe frames that are kept behind the last one
KEPT = 10  # of them: a run that always fails goes back by 1,000 steps at most, then to its start
QUIET = 50  # each so many checks without a violation have a line in the log
TOO_FAR = 20.0  # times its threshold: an uncertainty above it is of a structure that no label should be bought for


@dataclass(frozen=True)
class Halt:
    """Why a replica halted, at which step, and the step to which it went back."""

    replica: int
    step: int
    reason: str
    back_to: int


def separate(dynamics: Any) -> list[Any]:
    """One dynamics or several, as a list. Raises TypeError for what is none, ValueError where two share atoms or random numbers."""
    found = list(dynamics) if isinstance(dynamics, (list, tuple)) else [dynamics]
    if not found or not all(hasattr(one, "get_time") and isinstance(one.atoms, Atoms) for one in found):
        raise TypeError("dynamics must be an ASE molecular dynamics (Langevin, ...), or a list of such, on atoms")
    if len({id(one.atoms) for one in found}) < len(found) or share_random_numbers(found):
        raise ValueError("several dynamics need atoms and random numbers of their own: give each its copy of the atoms and rng=")
    return found


class Replica:
    """A dynamics with its monitor. `candidates`: frames of this turn on which the monitor acted, as far apart as `Spacing` says."""

    def __init__(
        self,
        number: int,
        dynamics: Any,
        criteria: Sequence[Criterion] | None,
        logfile: Path,
        before: dict[str, Any] | None = None,
        as_made: bool = True,
    ):
        """`before`: `state` of the replica in an earlier run; as_made: the dynamics has not moved since it was made.

        Raises ValueError where that state is of another dynamics.
        """
        self.number, self.dynamics = number, dynamics
        self.candidates: list[Atoms] = []
        self._saved = SavedFrames(Spacing())
        if before is not None:
            if as_made and (changed := other_settings(dynamics, before["safe"][0])):
                raise ValueError(
                    f"replica {number} was made with another {' and '.join(changed)}: make it as before, or take another folder"
                )
            put(dynamics, before["now"])
        self.safe: list[Snapshot] = [take(dynamics)] if before is None else before["safe"]
        self.waiting = False if before is None else bool(before["waiting"])
        self._halted = -APART - 1 if before is None else int(before["halted"])  # step of the last halt
        self._tries = 0 if before is None else int(before["tries"])
        self.monitor = UncertaintyMonitor(dynamics, criteria, logfile=logfile, flagged=None, callback=self._seen, quiet=QUIET)
        if before is not None:
            put_counts(self.monitor, before["counts"])

    def state(self) -> dict[str, Any]:
        """All that another process needs to go on from here, as plain values."""
        return {
            "now": plain(take(self.dynamics)),
            "safe": [plain(snapshot) for snapshot in self.safe],
            "waiting": self.waiting,
            "halted": self._halted,
            "tries": self._tries,
            "counts": counts_of(self.monitor),
        }

    def leave(self) -> None:
        """The monitor lets go of the dynamics."""
        self.monitor.detach()

    @property
    def steps(self) -> int:
        return int(self.dynamics.nsteps)

    def turn(self, steps: int) -> Halt | None:
        """Make so many steps. Where the monitor halts the run it goes back to a safe frame and waits; what it says is told.

        Raises what the calculator raises for another reason than the structure.
        """
        self.candidates, self._saved = [], SavedFrames(Spacing())
        self.monitor.halt_reason = None
        try:
            self.dynamics.run(steps)
        except Exception:  # whatever a potential raises; it tells the monitor of structures that it refuses
            if self.monitor.halt_reason is None:
                raise
        reason = self.monitor.halt_reason
        return None if reason is None else self._back(reason)

    def learned(self, potential: Any) -> None:
        """Go on with this potential."""
        self.dynamics.atoms.calc = potential
        self.monitor.state = MonitorState()
        self.waiting = False

    def nearest(self) -> Atoms:
        """The structure that it goes on from, where nothing on the way to the halt can be labelled."""
        return bare(self.dynamics.atoms)

    def _back(self, reason: Violation) -> Halt:
        """To the last safe frame; each time that the run came no further than APART beyond the last halt to an earlier one, and with other
        random numbers."""
        halted = self.steps
        self._tries = self._tries + 1 if halted <= self._halted + APART else 0
        del self.safe[max(len(self.safe) - self._tries, 1) :]
        put(self.dynamics, self.safe[-1])
        draw(self.dynamics, self._tries)
        self._halted, self.waiting = halted, True
        return Halt(self.number, halted, str(reason), self.steps)

    def _seen(self, record: MonitorRecord) -> None:
        violations = record.decision.violations
        if not violations:
            self._keep(take(self.dynamics))
        names = {v.criterion for v in violations}
        acting = bool(record.decision.acting) and STRUCTURE not in names
        if not acting or any(not v.value <= TOO_FAR * v.threshold for v in violations if v.criterion != GAP):
            return
        atoms = self.dynamics.atoms
        if self._saved.admit(None, atoms, record.time, always=record.decision.halting is not None):
            frame = bare(atoms)
            told = {"replica": self.number, "step": record.step, "time_fs": record.time, "temperature": record.temperature}
            frame.info |= {name: value for name, value in told.items() if value is not None}
            self.candidates.append(frame)

    def _keep(self, snapshot: Snapshot) -> None:
        """The first and the last one, and those between at least APART steps from each other."""
        if len(self.safe) > 1 and steps_of(self.safe[-1]) - steps_of(self.safe[-2]) < APART:
            self.safe[-1] = snapshot
        else:
            self.safe.append(snapshot)
        if len(self.safe) > KEPT:
            del self.safe[1]
