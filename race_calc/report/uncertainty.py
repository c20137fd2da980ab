"""Figures that show how far uncertainties can be trusted. NumPy, SciPy and matplotlib only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter
from scipy.special import ndtri

from race_calc.report.colours import COLOURS
from race_calc.report.figure import STYLE
from race_calc.uncertainty.metrics import NOMINAL_LEVELS, observed_levels

MARKERS = ("o", "s", "^", "D", "v")
BANDS = ((0.005, 0.995, "#F2F2F2"), (0.05, 0.95, "#E0E0E0"), (0.15, 0.85, "#CACACA"))  # quantiles of |d| of a half-normal
POINTS = 3000  # drawn for each set at most, evenly picked
SAMPLES = 10


@dataclass(frozen=True, eq=False)
class Cloud:
    """Errors and predicted standard deviations of one data set, (n,) each, of one unit."""

    error: np.ndarray
    std: np.ndarray


def error_figure(panels: Mapping[str, tuple[str, Mapping[str, Cloud]]]) -> Figure:
    """|error| against σ on logarithmic axes, with the bands in which 70, 90 and 99 % of the points of a right σ lie.

    panels: title → (unit, name of the data set → Cloud); the first data set is the one in distribution.
    """
    figure, axes = _panels(len(panels), 3.3)
    for ax, (title, (unit, clouds)) in zip(axes, panels.items(), strict=True):
        cloud_panel(ax, clouds)
        ax.set_title(title, fontsize=9)
        ax.set_xlabel(f"predicted σ ({unit})", **STYLE)
        ax.set_ylabel(f"|error| ({unit})", **STYLE)
    names = list(next(iter(panels.values()))[1])
    handles: list[Any] = [
        Line2D([], [], color=COLOURS[i % 5], marker=MARKERS[i % 5], ls="", ms=4, label=name) for i, name in enumerate(names)
    ]
    handles += [Patch(color=colour, label=f"{100 * (high - low):.0f} % lie here if σ is right") for low, high, colour in reversed(BANDS)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def cloud_panel(ax, clouds: Mapping[str, Cloud]) -> None:
    drawn = {name: _usable(cloud) for name, cloud in clouds.items()}
    std = np.concatenate([s for _, s in drawn.values()])
    error = np.concatenate([e for e, _ in drawn.values()])
    ax.set_xscale("log")
    ax.set_yscale("log")
    if std.size:
        x = np.array([std.min() / 1.3, std.max() * 1.3])
        for low, high, colour in BANDS:
            ax.fill_between(x, x * _half_normal(low), x * _half_normal(high), color=colour, lw=0, zorder=0)
        ax.plot(x, x, color="black", lw=0.8, ls=":", zorder=1)
        ax.set_xlim(*x)
        ax.set_ylim(max(np.quantile(error, 0.002), 1e-3 * std.min()), 2.0 * error.max())
    for i, (e, s) in enumerate(drawn.values()):
        size = 9 if len(e) < 500 else 3
        ax.scatter(s, e, s=size, color=COLOURS[i % 5], marker=MARKERS[i % 5], alpha=0.5, lw=0, rasterized=len(e) > 500, zorder=2 + i)
    ax.tick_params(labelsize=7, which="both")
    for axis in (ax.xaxis, ax.yaxis):
        low, high = axis.get_view_interval()
        if high > 10 * low:
            axis.set_minor_formatter(NullFormatter())  # a decade is labelled: smaller steps would overlap


def _usable(cloud: Cloud) -> tuple[np.ndarray, np.ndarray]:
    error, std = np.abs(cloud.error).ravel(), cloud.std.ravel()
    good = np.flatnonzero((error > 0) & (std > 0) & np.isfinite(error) & np.isfinite(std))
    picked = good[np.linspace(0, len(good) - 1, min(len(good), POINTS)).astype(int)] if len(good) else good
    return error[picked], std[picked]


def _half_normal(share: float) -> float:
    return float(ndtri(0.5 + 0.5 * share))


def calibration_figure(panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray | None]]]) -> Figure:
    """Observed against nominal levels; dashed before, solid after the calibration.

    panels: title → name of the data set → (levels before, levels after or None) at which its references were found.
    """
    figure, axes = _panels(len(panels), 2.6)
    after = False
    for ax, (title, sets) in zip(axes, panels.items(), strict=True):
        ax.plot([0, 1], [0, 1], color="black", lw=0.8, ls=":")
        for i, (before, later) in enumerate(sets.values()):
            ax.plot(NOMINAL_LEVELS, observed_levels(before), color=COLOURS[i % 5], lw=1.2, ls="--")
            if later is not None:
                after = True
                ax.plot(NOMINAL_LEVELS, observed_levels(later), color=COLOURS[i % 5], lw=1.6)
        ax.set_title(title, fontsize=9)
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        ax.set_xlabel("nominal level", **STYLE)
        ax.tick_params(labelsize=7)
    axes[0].set_ylabel("share of references below", **STYLE)
    names = list(next(iter(panels.values())))
    handles = [Line2D([], [], color=COLOURS[i % 5], lw=1.6, label=name) for i, name in enumerate(names)]
    handles += [Line2D([], [], color="0.4", lw=1.2, ls="--", label="before calibration" if after else "not calibrated")]
    handles += [Line2D([], [], color="0.4", lw=1.6, label="after")] * after
    handles += [Line2D([], [], color="black", lw=0.8, ls=":", label="perfect")]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


@dataclass(frozen=True, eq=False)
class Bars:
    """Reference − prediction (n,), and the bounds of an interval around the prediction that should hold it, (n,) each."""

    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray


def interval_figure(rows: Mapping[str, Sequence[tuple[str, Bars]]], unit: str, share: str) -> Figure:
    """Ten structures of each data set: where the reference lies in the interval of the model.

    rows: name of the data set → panels (title, Bars), for example before and after. share: of references, for example "90 %".
    """
    columns = max(len(panels) for panels in rows.values())
    figure = Figure(figsize=(3.4 * columns + 0.4, 1.9 * len(rows) + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False, sharex=True)
    for r, (name, panels) in enumerate(rows.items()):
        for ax, (title, bars) in zip(axes[r], panels, strict=False):
            _bar_panel(ax, bars, COLOURS[r % 5])
            ax.set_title(f"{name}, {title}", fontsize=9)
        axes[r][0].set_ylabel(f"reference − prediction\n({unit})", **STYLE)
    for ax in axes[-1]:
        ax.set_xlabel("structure (ten or fewer, evenly picked)", **STYLE)
    handles = [
        Patch(color="0.75", label=f"interval for {share} of the references"),
        Line2D([], [], color="black", marker="o", ls="", ms=4, label="reference inside"),
        Line2D([], [], color="black", marker="x", ls="", ms=6, label="outside"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _bar_panel(ax, bars: Bars, colour: str) -> None:
    place = np.linspace(0, len(bars.difference) - 1, min(SAMPLES, len(bars.difference))).astype(int)
    d, low, high = bars.difference[place], bars.low[place], bars.high[place]
    x = np.arange(1, len(place) + 1)
    limit = 1.15 * max(*[np.abs(v[np.isfinite(v)]).max(initial=0.0) for v in (d, low, high)], 1e-6)
    bottom, top = (np.clip(np.nan_to_num(v, nan=0.0), -limit, limit) for v in (low, high))  # infinite bounds reach the edge
    ax.bar(x, top - bottom, bottom=bottom, width=0.7, color=colour, alpha=0.35, lw=0)
    inside = (d >= low) & (d <= high)
    ax.plot(x[inside], d[inside], "o", color="black", ms=4)
    ax.plot(x[~inside], d[~inside], "x", color="black", ms=6, mew=1.6)
    ax.axhline(0.0, color="black", lw=0.6)
    ax.set(ylim=(-limit, limit), xticks=x)
    ax.tick_params(labelsize=7)


def _panels(count: int, width: float):
    figure = Figure(figsize=(width * count + 0.6, width + 1.0), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, count, squeeze=False)[0]
