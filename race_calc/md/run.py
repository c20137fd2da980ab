"""The demonstration run: MD at 300 K, then heated until the monitor ends it. Uses ASE."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin

from race_calc.data.momenta import thermal_momenta
from race_calc.md.attach import UncertaintyMonitor
from race_calc.md.record import MonitorRecord, annotate, append_frame, record_uncertainties
from race_calc.uncertainty.decisions import Violation

TIMESTEP = 0.5  # fs; a C-H bond vibrates in about 11 fs
FRICTION = 0.02  # 1/fs
COLD, HOT = 300.0, 1500.0  # K
FRAME_INTERVAL = 5  # steps from one frame of the trajectory to the next
TRAJECTORY, LOG, FLAGGED, FIGURE = "trajectory.xyz", "monitor.jsonl", "flagged.xyz", "monitor"
OUTPUTS = (TRAJECTORY, LOG, FLAGGED, FIGURE + ".png", FIGURE + ".pdf")


@dataclass(frozen=True)
class DemoPlan:
    """Steps at 300 K, of the heating to 1500 K, and at 1500 K."""

    rest: int = 500
    ramp: int = 1500
    hold: int = 500

    @property
    def steps(self) -> int:
        return self.rest + self.ramp + self.hold


@dataclass(frozen=True)
class DemoOutcome:
    """What happened: steps made, the violation that ended the run or None, the temperature of the atoms and of
    the thermostat at the end (K), and all violations on which the monitor acted (flag or halt)."""

    plan: DemoPlan
    steps: int
    halt: Violation | None
    temperature: float
    target: float
    alarms: tuple[Violation, ...] = ()


def demo_plan(steps: int) -> DemoPlan:
    """A fifth of the steps at 300 K, three fifths heating, the rest at 1500 K.

    Raises ValueError for fewer than 5 steps.
    """
    if steps < 5:
        raise ValueError(f"the demo needs at least 5 steps, got {steps}: choose more with --steps")
    rest, ramp = steps // 5, 3 * steps // 5
    return DemoPlan(rest, ramp, steps - rest - ramp)


def target_temperature(plan: DemoPlan, step: int) -> float:
    """Temperature of the thermostat during a step, K."""
    return float(np.interp(step, (plan.rest, plan.rest + plan.ramp), (COLD, HOT)))


def run_demo(atoms: Atoms, plan: DemoPlan, out: str | Path, seed: int, callback: Callable[[MonitorRecord], None]) -> DemoOutcome:
    """Run the plan, or up to the halt, and write trajectory, log and flagged frames into the folder `out`.

    atoms: with a `RACECalculator`; they are moved. callback: called after each check of the monitor. Files of
    an earlier demo in `out` are replaced, other files are left alone.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for name in OUTPUTS:
        (out / name).unlink(missing_ok=True)
    random = np.random.default_rng(seed)
    atoms.set_momenta(thermal_momenta(atoms, COLD, random))
    dyn = Langevin(atoms, TIMESTEP * units.fs, temperature_K=COLD, friction=FRICTION / units.fs, fixcm=False, rng=random)
    alarms: list[Violation] = []

    def note(record: MonitorRecord) -> None:
        alarms.extend(v for v in record.decision.violations if v.action in ("flag", "halt"))
        callback(record)

    monitor = UncertaintyMonitor(dyn, logfile=out / LOG, flagged=out / FLAGGED, callback=note, quiet=1)
    record_uncertainties(dyn, out / TRAJECTORY, interval=FRAME_INTERVAL)
    dyn.attach(lambda: dyn.set_temperature(temperature_K=target_temperature(plan, dyn.nsteps + 1)))
    dyn.run(plan.steps)
    if dyn.nsteps % FRAME_INTERVAL:  # the last frame belongs into the trajectory
        frame = annotate(atoms, atoms.calc.prediction(atoms))
        frame.info["step"] = dyn.nsteps
        append_frame(out / TRAJECTORY, frame)
    return DemoOutcome(
        plan=plan,
        steps=dyn.nsteps,
        halt=monitor.halt_reason,
        temperature=float(atoms.get_temperature()),
        target=target_temperature(plan, dyn.nsteps),
        alarms=tuple(alarms),
    )
