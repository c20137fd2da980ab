"""A run of MD from beginning to end, on disk: it can be killed at any moment, and the same call goes on where it was. Uses ASE."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet

from race_calc.data.hashes import geometry_hash
from race_calc.data.lock import locked
from race_calc.data.momenta import thermal_momenta
from race_calc.md.attach import UncertaintyMonitor
from race_calc.md.counts import counts_of, put_counts
from race_calc.md.record import MonitorRecord, record_uncertainties
from race_calc.md.session_files import FLAGGED, LOCK, LOG, TRAJECTORY, read_state, write_state
from race_calc.md.snapshot import plain, put, take
from race_calc.uncertainty.decisions import Violation
from race_calc.uncertainty.scores import fills_space

ENSEMBLES = ("nve", "nvt", "npt")
SAVED = 100  # steps from one state on disk to the next


@dataclass(frozen=True)
class Session:
    """What is run.

    ensemble: one of ENSEMBLES. temperature, end: K at the first and the last step. timestep: fs. friction: 1/fs, of nvt. pressure: GPa, of
    npt. every: steps from one frame of the trajectory to the next; interval: from one check of the monitor to the next.

    Raises ValueError for what is not possible.
    """

    ensemble: str = "nvt"
    temperature: float = 300.0
    end: float = 300.0
    steps: int = 1000
    timestep: float = 0.5
    friction: float = 0.01
    pressure: float = 0.0
    every: int = 10
    interval: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.ensemble not in ENSEMBLES:
            raise ValueError(f"unknown ensemble {self.ensemble!r}: use one of {', '.join(ENSEMBLES)}")
        if self.end != self.temperature and self.ensemble != "nvt":
            raise ValueError(f"a ramp of the temperature needs a thermostat that follows: use --ensemble nvt, not {self.ensemble}")
        for name in ("timestep", "friction", "steps", "every", "interval"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be above 0 and finite, got {getattr(self, name)}")
        if not np.isfinite(self.pressure):
            raise ValueError(f"pressure must be a number of GPa, got {self.pressure}")
        if self.ensemble == "npt" and not self.temperature > 0:
            raise ValueError("constant pressure needs a temperature above 0 K; for a structure and cell at rest: race-calc relax --cell")
        if not (np.isfinite(self.temperature) and min(self.temperature, self.end) >= 0):
            raise ValueError(f"temperatures must be 0 K or above, got {self.temperature} and {self.end}")


@dataclass(frozen=True)
class Ended:
    """Steps that were made in all, why the run ended before its last step, or None, and what `UncertaintyMonitor.explain` said then."""

    steps: int
    halt: Violation | None
    explanation: str = ""


def temperature_at(session: Session, step: int) -> float:
    """Of the thermostat during a step, K."""
    return float(np.interp(step, (0, session.steps), (session.temperature, session.end)))


def dynamics_of(atoms: Atoms, session: Session) -> Any:
    """The dynamics of ASE; momenta are drawn where the atoms have none. Raises ValueError for npt of what does not fill space, or has
    constraints."""
    random = np.random.default_rng(session.seed)
    if not atoms.has("momenta") or not atoms.get_momenta().any():
        atoms.set_momenta(thermal_momenta(atoms, session.temperature, random))
    step = session.timestep * units.fs
    if session.ensemble == "nve":
        return VelocityVerlet(atoms, step)
    if session.ensemble == "nvt":
        friction = session.friction / units.fs
        dynamics = Langevin(atoms, step, temperature_K=session.temperature, friction=friction, fixcm=False, rng=random)
        dynamics.attach(lambda: dynamics.set_temperature(temperature_K=temperature_at(session, dynamics.nsteps + 1)))
        return dynamics
    if not fills_space(atoms):
        raise ValueError("constant pressure needs a cell that repeats in three directions: use --ensemble nvt")
    if atoms.constraints:
        raise ValueError(
            "constant pressure moves all atoms with the cell, some are fixed here: remove the constraints, or use --ensemble nvt"
        )
    from ase.md.nose_hoover_chain import IsotropicMTKNPT  # newer than the oldest ASE that serves for the rest

    pressure = session.pressure * units.GPa
    return IsotropicMTKNPT(atoms, step, temperature_K=session.temperature, pressure_au=pressure, tdamp=100 * step, pdamp=1000 * step)


def run_session(atoms: Atoms, session: Session, out: Path, callback: Callable[[MonitorRecord], None] | None = None) -> Ended:
    """Run, or go on with, a session in the folder `out`: trajectory with uncertainties, log of the monitor, flagged frames.

    atoms: with a calculator that has predictions, at the start of the run, or where it is now; they are moved. A structure that the
    calculator refuses ends the run as a halt does. Raises ValueError as `race_calc.md.session_files.read_state` does, and
    `race_calc.data.lock.RunningError` where another process works in `out`.
    """
    with locked(out, LOCK):
        return _run(atoms, session, out, callback)


def _run(atoms: Atoms, session: Session, out: Path, callback: Callable[[MonitorRecord], None] | None) -> Ended:
    origin = {"model": getattr(atoms.calc, "model_hash", None), "start structure": geometry_hash(atoms)}
    origin["dtype"] = getattr(atoms.calc, "parameters", {}).get("dtype")
    before = read_state(out, asdict(session), origin, atoms)
    origin = origin if before is None else before["origin"]
    dynamics = dynamics_of(atoms, session)
    if before is not None:
        put(dynamics, before["now"])
        if before["halt"] is not None or dynamics.nsteps >= session.steps:
            halt = None if before["halt"] is None else Violation(**before["halt"])
            return Ended(dynamics.nsteps, halt, before.get("explanation", "" if halt is None else str(halt)))  # earlier releases kept none
    monitor = UncertaintyMonitor(
        dynamics, logfile=out / LOG, flagged=out / FLAGGED, interval=session.interval, callback=callback, quiet=session.every
    )
    if before is not None:
        put_counts(monitor, before["counts"])

    def save() -> None:
        halt = None if monitor.halt_reason is None else asdict(monitor.halt_reason)
        content = {"session": asdict(session), "origin": origin, "now": plain(take(dynamics)), "counts": counts_of(monitor)}
        write_state(out, content | {"halt": halt, "explanation": _why(monitor)})

    if before is None:
        save()  # from now on the files in the folder are known as those of this run
    begun = dynamics.nsteps
    record_uncertainties(dynamics, out / TRAJECTORY, session.every, append=True)
    dynamics.attach(lambda: save() if dynamics.nsteps > begun else None, interval=SAVED)
    try:
        dynamics.run(session.steps - begun)
    except ValueError:
        if monitor.halt_reason is None:
            raise
        return Ended(dynamics.nsteps, monitor.halt_reason, _why(monitor))  # refused by the calculator: the state before it is kept
    monitor.detach()  # the log tells the end
    save()
    return Ended(dynamics.nsteps, monitor.halt_reason, _why(monitor))


def _why(monitor: UncertaintyMonitor) -> str:
    return "" if monitor.halt_reason is None else monitor.explain()
