"""What the demo tells at its end: the figure and the closing lines."""

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.data import covalent_radii

from race_calc.md.log import read_log
from race_calc.md.record import SIGMA
from race_calc.md.run import COLD, FIGURE, FLAGGED, HOT, LOG, TIMESTEP, TRAJECTORY, DemoOutcome, target_temperature
from race_calc.report.figure import RunTrace, ScoreTrace, run_figure, save_figure
from race_calc.report.molecule import Molecule
from race_calc.uncertainty.decisions import Violation
from race_calc.uncertainty.scores import SCORES


def draw_figure(outcome: DemoOutcome, out: Path) -> list[Path]:
    """Read the log and the last frame of the trajectory in `out`, draw, and return the paths of the figure."""
    frame: Any = ase.io.read(out / TRAJECTORY, index=-1)  # one Atoms
    molecule = None
    halt = outcome.halt
    if SIGMA in frame.arrays:
        molecule = Molecule(
            symbols=frame.get_chemical_symbols(),
            positions=frame.positions,
            radii=covalent_radii[frame.numbers],
            values=frame.arrays[SIGMA],
            label="standard deviation σ of the force (eV/Å)",
            ringed=halt.atom_index if halt else None,
        )
    caption = f"{'Halt' if halt else 'End'}: step {outcome.steps}, {outcome.steps * TIMESTEP:g} fs"
    if halt and halt.atom_index is not None:
        caption += f"\nringed: {_atom(halt)}" + (f", {SCORES[halt.criterion].label}" if halt.message is None else "")
    return save_figure(run_figure(read_trace(outcome, out / LOG), molecule, caption), out / FIGURE)


def read_trace(outcome: DemoOutcome, log: Path) -> RunTrace:
    """The last run in the monitor's log."""
    run = read_log(log)[-1]
    acting = [{v["criterion"] for v in violations if v["action"] in ("flag", "halt")} for violations in run.violations]
    first = {criterion["name"]: criterion for criterion in reversed(run.criteria)}  # a panel for each score, by its first criterion
    scores = [
        ScoreTrace(
            SCORES[name].label,
            SCORES[name].unit,
            values=run.scores[name],
            threshold=criterion["threshold"],
            acted=np.array([name in names for names in acting]),
            action=criterion["action"],
        )
        for name, criterion in first.items()
    ]
    heating = min(outcome.plan.rest * TIMESTEP, run.time[-1])
    phases = [(run.time[0], heating, f"{COLD:.0f} K")]
    if run.time[-1] > heating:
        phases.append((heating, run.time[-1], "heating"))
    return RunTrace(
        time=run.time,
        temperature=run.temperature,
        target=np.array([target_temperature(outcome.plan, step) for step in run.step]),
        scores=scores,
        phases=phases,
        halt=run.time[-1] if outcome.halt else None,
    )


def closing_lines(outcome: DemoOutcome) -> list[str]:
    """What happened, in plain words."""
    rest, halt = outcome.plan.rest, outcome.halt
    early = [v for v in outcome.alarms if v.step <= rest]
    flags = [v for v in outcome.alarms if v.action == "flag" and v.step > rest]
    reached = f"step {outcome.steps}, {outcome.steps * TIMESTEP:g} fs, thermostat {outcome.target:.0f} K, atoms {outcome.temperature:.0f} K"
    if halt and halt.step <= rest:
        return [
            f"At {COLD:.0f} K: the monitor stopped the run before the heating began ({reached}).",
            f"{_reason(halt)} The run was stopped.",
            f"Nothing should fire here: either this is a false alarm, or the model does not know this molecule at {COLD:.0f} K.",
        ]
    if early:
        lines = [
            f"At {COLD:.0f} K: {rest} steps, and {_count(early)} flagged, where nothing should be; first at "
            f"step {early[0].step}: {_value(early[0])}."
        ]
    else:
        lines = [f"At {COLD:.0f} K: {rest} steps, no alarm."]
    if flags:
        lines.append(f"Heating: {_count(flags)} flagged, first at step {flags[0].step}: {_value(flags[0])}.")
    if halt:
        lines.append(f"Heating: halt at {reached}. {_reason(halt)} The run was stopped.")
    else:
        what = "flagged frames, but no halt" if flags else "no alarm"
        lines.append(f"Heating: {outcome.steps - rest} steps, {what}; the end of the run was {reached}.")
        lines.append(
            "The monitor did not stop this run: by its thresholds the model knew what it met. "
            f"A longer run (--steps) stays longer at {HOT:.0f} K; another --seed takes another path."
        )
    return lines


def file_lines(outcome: DemoOutcome, out: Path) -> list[str]:
    """Which files there are and how to look at them."""
    lines = [f"Figure: {out / FIGURE}.png and .pdf", f"Log of the monitor: {out / LOG}"]
    if outcome.alarms:
        lines.append(f"Flagged frames, those that differ: {out / FLAGGED}")
    return [
        *lines,
        f"Look at the molecule: ase gui {out / TRAJECTORY}",
        f'  it opens at the last frame; View > Colors ... > By user-defined "{SIGMA}" (eV/Å)',
        '  or "bald_forces" (nat): green is certain, pink uncertain (of the frame shown).',
    ]


def _reason(violation: Violation) -> str:
    if violation.message is not None:
        return f"The structure broke: {violation.message}."
    what = SCORES[violation.criterion].of
    if violation.atom_index is not None:
        what = f"{'force' if what == 'forces' else what} on {_atom(violation)}"
    return f"The model no longer knew the {what}: {_value(violation)}."


def _value(violation: Violation) -> str:
    row = SCORES[violation.criterion]
    return f"{row.label} {row.text(violation.value)}, above its threshold of {row.text(violation.threshold)}"


def _atom(violation: Violation) -> str:
    return f"atom {violation.atom_index} ({violation.element})" if violation.element else f"atom {violation.atom_index}"


def _count(alarms: list[Violation]) -> str:
    steps = len({v.step for v in alarms})
    return "1 frame" if steps == 1 else f"{steps} frames"
