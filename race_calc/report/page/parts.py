"""What a section of the page is made of: charts, tables, the viewer. Plain data, no HTML."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from race_calc.report.colours import COLOURS

SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down")
DASHES = ("solid", "dash", "dashdot", "dot", "longdash")
POINTS = 800  # of a cloud that are drawn, evenly picked
EXTREMES = 25  # beside them, the largest errors

Trace = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """An interactive figure.

    ======= ==========================================================================
    field   meaning
    ======= ==========================================================================
    key     its id on the page
    title   what it shows
    caption how it is read
    summary what it says, in numbers, for those who do not see it
    traces  as plotly.js takes them
    layout  likewise
    ======= ==========================================================================
    """

    key: str
    title: str
    caption: str
    summary: str
    traces: list[Trace]
    layout: dict[str, Any]
    kind: str = "chart"


@dataclass(frozen=True)
class Grid:
    """A table; the first cell of a row is its head. `links`: row → id of a structure in the viewer, for a button at its end."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    folded: bool = False
    links: dict[int, str] = field(default_factory=dict)
    kind: str = "grid"


@dataclass(frozen=True)
class Viewer:
    """Structures that the 3-D viewer offers, see `race_calc.report.page.worst`."""

    structures: Sequence[dict[str, Any]]
    caption: str
    kind: str = "viewer"


@dataclass(frozen=True)
class Prose:
    """Sentences as a list; `title` may be "". `html`: text that is HTML already (the model card)."""

    title: str
    lines: Sequence[str] = ()
    html: str = ""
    folded: bool = True
    kind: str = "prose"


@dataclass(frozen=True)
class Section:
    key: str
    title: str
    lead: str
    parts: Sequence[Chart | Grid | Viewer | Prose]


def axis(text: str, log: bool = False, **more: Any) -> dict[str, Any]:
    """The page chooses the ticks of a logarithmic axis, by what is in view."""
    scale = {"type": "log", "tickformat": "~g", "tickmode": "array"} if log else {}
    return {"title": {"text": text}, **scale, **more}


def cloud(x: np.ndarray, y: np.ndarray, name: str, k: int, **more: Any) -> Trace:
    """Points of data set number k."""
    marker = {"color": COLOURS[k % 5], "symbol": SYMBOLS[k % 5], "size": 5, "opacity": 0.55}
    return {"type": "scatter", "mode": "markers", "name": name, "x": rounded(x), "y": rounded(y), "marker": marker, **more}


def line(x: Any, y: Any, name: str, k: int, **more: Any) -> Trace:
    """A line of data set number k."""
    style = {"color": COLOURS[k % 5], "dash": DASHES[k % 5], "width": 2}
    return {"type": "scatter", "mode": "lines", "name": name, "x": rounded(x), "y": rounded(y), "line": style, **more}


def rule(x: Any, y: Any, name: str) -> Trace:
    """What would be right: a thin black line."""
    style = {"color": "#222", "width": 1, "dash": "dot"}
    return {"type": "scatter", "mode": "lines", "name": name, "x": rounded(x), "y": rounded(y), "line": style, "hoverinfo": "skip"}


def rounded(values: Any, digits: int = 4) -> list[float | None]:
    """Numbers with so many significant digits; None for what is not finite."""
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in np.asarray(values, dtype=float).ravel().tolist()]


def thinned(size: np.ndarray, limit: int = POINTS) -> np.ndarray:
    """Indices of points to draw: evenly picked, and the EXTREMES with the largest `size` (n,)."""
    even = np.linspace(0, len(size) - 1, min(len(size), limit)).astype(int)
    return np.unique(np.concatenate([even, np.argsort(-np.nan_to_num(size, nan=np.inf), kind="stable")[:EXTREMES]]))


def drawn(total: int) -> str:
    """Says so where not all points are drawn."""
    return (
        f" Drawn: {POINTS} points of each data set, evenly picked, and the {EXTREMES} largest errors." if total > POINTS + EXTREMES else ""
    )
