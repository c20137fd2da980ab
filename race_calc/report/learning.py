"""A learning run for its reader: what each round bought and taught, and a time line."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

from race_calc.md.log import LoggedRun
from race_calc.report.figure import BLUE, ORANGE, VERMILION
from race_calc.report.tables import milli, plain_table, row
from race_calc.uncertainty.scores import SCORES

History = Sequence[Mapping[str, Any]]  # `race_calc.learning.on_the_fly.OnTheFly.history`


def rounds_table(history: History) -> Table:
    """A row for each round: labels, errors of the forces on what is held back before and after, seconds."""
    table = plain_table("Rounds", ["round", "labels", "forces before", "after, meV/Å", "kept", "label, s", "learn, s", "rest, s"])
    for line in _of("round", history):
        seconds = line["seconds"]
        errors = milli(line.get("before")), milli(line.get("after"))
        rest = seconds["choose"] + seconds["go_on"]
        times = (f"{each:.1f}" for each in (seconds["label"], seconds["learn"], rest))
        row(table, str(line["number"]), str(line["labels"]), *errors, "yes" if line["kept"] else "no", *times)
    return table


def learning_figure(logs: Sequence[Sequence[LoggedRun]], history: History, timestep: float) -> Figure:
    """Temperature and first score of each replica over its time in ps, where it halted and went back, and the labels bought.

    logs: of each replica's monitor (`race_calc.read_log`); what it went through again after a halt is drawn again. timestep: fs.
    Raises ValueError where there is nothing to draw.
    """
    watched = [c["name"] for c in (logs[0][0].criteria if logs else ()) if all(c["name"] in run.scores for runs in logs for run in runs)]
    if not watched:
        raise ValueError("the logs of the monitors have no score in common")
    score = SCORES[watched[0]]
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    kelvin, spread, labels = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1.4, 1))
    for k, runs in enumerate(logs):
        each = zip(*((run.step, run.temperature, run.scores[score.name]) for run in runs))
        steps, temperature, values = (np.concatenate(parts) for parts in each)
        time, back = steps * timestep / 1000, np.flatnonzero(np.diff(steps) < 0) + 1  # no line from a halt back to the safe frame
        kelvin.plot(*_broken(time, temperature, back), lw=0.4, color=BLUE, alpha=0.5)
        spread.plot(*_broken(time, values, back), lw=0.4, color=BLUE, alpha=0.5)
        halts = [line["step"] * timestep / 1000 for line in _of("halt", history) if line["replica"] == k]
        spread.plot(halts, np.full(len(halts), 0.95), "v", color=VERMILION, ms=4, transform=spread.get_xaxis_transform())
    end = max(int(run.step.max(initial=0)) for runs in logs for run in runs)
    when, counts = zip((0, 0), *_bought(history), (end, 0))
    labels.step(np.array(when) * timestep / 1000, np.cumsum(counts), where="post", color=ORANGE)
    kelvin.set_ylabel("temperature, K", fontsize=8)
    spread.set_ylabel(f"{score.label}, {score.unit}".replace(", ", ",\n"), fontsize=8)
    spread.set_yscale("log")
    spread.set_title("▼ halts: back to a safe frame, labels, a lesson", fontsize=7, color=VERMILION, loc="left", pad=8)
    labels.set_ylabel("labels bought", fontsize=8)
    labels.set_xlabel("time of each replica, ps", fontsize=8)
    for ax in (kelvin, spread, labels):
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def _broken(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.insert(x, at, np.nan), np.insert(y, at, np.nan)


def _of(event: str, history: History) -> list[Mapping[str, Any]]:
    return [line for line in history if line["event"] == event]


def _bought(history: History) -> list[tuple[int, int]]:
    """(step of the last halt before it, labels) of each round, in the order of steps."""
    found, step = [], 0
    for line in history:
        step = line["step"] if line["event"] == "halt" else step
        if line["event"] == "round":
            found.append((step, line["labels"]))
    return sorted(found)
