"""The figure of a monitored run. NumPy and matplotlib only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from race_calc.report.colours import BLUE, ORANGE, VERMILION
from race_calc.report.molecule import Molecule, draw_molecule

SHADES = ("#E3EEF6", "#FBEBD9", "#EFEFEF")
LOG_SPAN = 10.0  # largest / smallest value from which an axis is logarithmic
MARKS = {"log": ("log line", "white"), "flag": ("flagged frame", ORANGE), "halt": ("halt", VERMILION)}
STYLE = {"fontsize": 8}
LEGEND = {"fontsize": 7, "loc": "lower left", "bbox_to_anchor": (0, 0.98), "ncols": 2, "frameon": False,
          "borderaxespad": 0, "handletextpad": 0.4}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ScoreTrace:
    """One score over the T checks: name and unit, values (T,), threshold, where the action was taken (T,), and
    what this action is: "log", "flag" or "halt"."""

    name: str
    unit: str
    values: np.ndarray
    threshold: float
    acted: np.ndarray
    action: str = "flag"


@dataclass(frozen=True, eq=False)
class RunTrace:
    """What a run went through.

    ============ ===================== ==============================================
    field        shape, unit           meaning
    ============ ===================== ==============================================
    time         (T,) fs               of each check of the monitor
    temperature  (T,) K                of the atoms
    target       (T,) K                of the thermostat
    scores                             a panel each
    phases       (start, end, name)    stretches of time to shade, fs
    halt         fs or None            when the monitor ended the run
    ============ ===================== ==============================================
    """

    time: np.ndarray
    temperature: np.ndarray
    target: np.ndarray
    scores: Sequence[ScoreTrace]
    phases: Sequence[tuple[float, float, str]] = ()
    halt: float | None = None


def run_figure(trace: RunTrace, molecule: Molecule | None = None, caption: str = "") -> Figure:
    """Temperature and scores over time; beside them the molecule with coloured atoms.

    caption: a line or two above the molecule, for example which frame it is and which atom is ringed.
    """
    rows = 1 + len(trace.scores)
    figure = Figure(figsize=(7.2, 1.2 + 1.35 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    left: Any = figure
    if molecule is not None:
        left, right = figure.subfigures(1, 2, width_ratios=(1.6, 1.0), wspace=0.02)  # type: ignore[misc]  # an array of two
        _molecule_panel(right, molecule, caption)
    panels = left.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    _temperature_panel(panels[0], trace)
    for ax, score in zip(panels[1:], trace.scores, strict=True):
        _score_panel(ax, trace.time, score)
    for ax in panels:
        _mark_phases(ax, trace)
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    _name_phases(panels[0], trace)
    panels[-1].set_xlabel("time (fs)", **STYLE)
    panels[-1].set_xlim(trace.time[0], max(trace.time[-1], trace.time[0] + 1e-9))
    left.align_ylabels(panels)
    return figure


def save_figure(figure: Figure, stem: str | Path) -> list[Path]:
    """Write `stem`.png and `stem`.pdf and return their paths."""
    paths = [Path(f"{stem}{ending}") for ending in (".png", ".pdf")]
    for path in paths:
        figure.savefig(path, dpi=200)
    return paths


def _temperature_panel(ax, trace: RunTrace) -> None:
    ax.plot(trace.time, trace.temperature, color=BLUE, lw=0.9, label="atoms")
    ax.plot(trace.time, trace.target, color="black", lw=1.2, ls="--", label="thermostat")
    ax.set_ylim(0, 1.35 * np.nanmax(np.maximum(trace.temperature, trace.target)))
    ax.set_ylabel("temperature (K)", **STYLE)
    ax.legend(**LEGEND)


def _score_panel(ax, time: np.ndarray, score: ScoreTrace) -> None:
    values = np.where(np.isfinite(score.values), score.values, np.nan)
    positive = np.append(values[values > 0], score.threshold if score.threshold > 0 else [])
    if positive.size and positive.max() > LOG_SPAN * positive.min():
        ax.set_yscale("log")
        values = np.where(values > 0, values, np.nan)
        ax.set_ylim(positive.min() / 1.5, positive.max() * 3)
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if positive.max() < 300 * positive.min() else (1.0,)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_ylim(0, 1.3 * (positive.max() if positive.size else 1.0))
    ax.plot(time, values, color=BLUE, lw=0.9)
    ax.axhline(score.threshold, color=VERMILION, lw=1.1, ls="--")
    ax.annotate(
        f"threshold {score.threshold:.3g}",
        (0.0, score.threshold), (4, 2.5), xycoords=("axes fraction", "data"), textcoords="offset points",
        color=VERMILION, fontsize=7, va="bottom",
    )  # fmt: skip
    acted = np.asarray(score.acted, dtype=bool)
    if acted.any():
        label, colour = MARKS[score.action]
        form = {"marker": "D" if score.action == "halt" else "o", "mec": "black", "mew": 0.5, "ms": 4.5}
        ax.plot(time[acted], values[acted], color=colour, ls="", label=label, zorder=5, clip_on=False, **form)
        ax.legend(**LEGEND)
    unit = f" ({score.unit})" if score.unit else ""
    ax.set_ylabel(f"{score.name}{unit}".replace(", ", "\n"), **STYLE)


def _mark_phases(ax, trace: RunTrace) -> None:
    for k, (start, end, _) in enumerate(trace.phases):
        ax.axvspan(start, end, color=SHADES[k % len(SHADES)], lw=0, zorder=0)
    if trace.halt is not None:
        ax.axvline(trace.halt, color="black", lw=1.4, zorder=4, clip_on=False)


def _name_phases(ax, trace: RunTrace) -> None:
    place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8, "va": "top"}
    for start, _, name in trace.phases:
        ax.annotate(name, (start, 1.0), (4, -3), **place)
    if trace.halt is not None:
        ax.annotate("halt", (trace.halt, 1.0), (-3, 2), **(place | {"va": "bottom"}), ha="right", fontweight="bold")


def _molecule_panel(figure, molecule: Molecule, caption: str) -> None:
    ax = figure.subplots()
    colours = draw_molecule(ax, molecule)
    ax.set_title(caption, fontsize=8)
    bar = figure.colorbar(colours, ax=ax, orientation="horizontal", shrink=0.9, aspect=24, pad=0.02)
    bar.set_label(molecule.label, **STYLE)
    bar.ax.tick_params(labelsize=7)
