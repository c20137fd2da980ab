"""Why the monitor ended a run: the halting frame beside what the training had."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii

from race_calc.data.graph import from_atoms
from race_calc.md.explain import Growth, explanation
from race_calc.md.log import LoggedRun
from race_calc.report.colours import BLUE, VERMILION
from race_calc.report.page.parts import Chart, Prose, Section, axis, rounded
from race_calc.report.page.run import MOST_RUNS, frame_key
from race_calc.uncertainty.decisions import Violation
from race_calc.uncertainty.environments import Environments, Unknown

MOST_CHARTS = 3  # of a halt


def halt_section(runs: Sequence[LoggedRun], frames: Mapping[str, Atoms], known: Environments | None, model: str) -> list[Section]:
    """None where no run shown was ended, or its last frame is not there. `known`: what the training had, where the model tells it."""
    parts: list[Chart | Prose] = []
    for number, run in enumerate(runs[-MOST_RUNS:]):
        at = [t for t, action in enumerate(run.action) if action == "halt"]
        frame = frames.get(frame_key(str(run.run), int(run.step[at[-1]]))) if at else None
        if frame is None:
            continue
        reason = next(Violation(**one) for one in run.violations[at[-1]] if one["action"] == "halt")
        before = slice(None, at[-1] + 1)
        values = run.scores.get(reason.criterion, np.full(len(run.step), np.nan))
        growth = Growth(reason.criterion, run.time[before], values[before])
        lines = explanation(str(reason), frame, growth, known, "flagged.xyz", model)
        parts.append(Prose(f"Run {run.run or number + 1}", lines, folded=False))
        if known is not None:
            unknown = known.unknown(from_atoms(frame, known.cutoff), covalent_radii)
            shown = sorted((one for one in unknown if one.known is not None), key=lambda one: -one.excess)[:MOST_CHARTS]
            parts += [_chart(f"halt-{number}-{k}", one, known) for k, one in enumerate(shown)]
    lead = "The halting frame beside what the training had; it is in the 3-D viewer above, as the last frame of its run."
    return [Section("halt", "Why did the run end?", lead, parts)] if parts else []


def _chart(key: str, one: Unknown, known: Environments) -> Chart:
    """The histogram of the training, and where the frame is."""
    counts, width = known.counts[one.kind.name][one.elements], one.kind.width
    names = "–".join(chemical_symbols[z] for z in one.elements)
    title = f"{one.kind.name.capitalize()} {names}"
    filled = np.flatnonzero(counts)
    rows = np.arange(filled[0], filled[-1] + 1)
    centres = (rows + (0.0 if one.kind.name == "coordination" else 0.5)) * width
    unit, after = (f" ({one.kind.unit})", f" {one.kind.unit}".replace(" °", "°")) if one.kind.unit else ("", "")
    atoms = ", ".join(map(str, one.atoms))
    line = {"color": VERMILION, "width": 2, "dash": "dash"}
    top = float(counts.max())
    traces: list[dict[str, Any]] = [
        {"type": "bar", "name": "training", "x": rounded(centres, 6), "y": rounded(counts[rows]), "marker": {"color": BLUE}},
        {"type": "scatter", "mode": "lines", "name": "halting frame", "x": rounded([one.value] * 2, 6), "y": [0.0, top], "line": line},
    ]
    low, high = one.known or (np.nan, np.nan)
    summary = f"Atoms {atoms}: {one.value:.3g}{after}; the nearest range of the training is {low:.3g} to {high:.3g}{after}."
    ends = sorted([one.value, rows[0] * width, (rows[-1] + 1) * width])
    around = 0.05 * (ends[-1] - ends[0])
    layout = {
        "xaxis": axis(one.kind.name + unit, range=rounded([ends[0] - around, ends[-1] + around], 6)),
        "yaxis": axis("times in the training"),
        "bargap": 0.05,
    }
    return Chart(key, title, summary, summary, traces, layout)
