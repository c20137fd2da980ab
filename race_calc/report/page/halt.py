"""Why the monitor ended a run: the halting frame beside what the training had."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from race_calc.md.explain import OLDER, Growth, commands, compared, explanation
from race_calc.report.colours import BLUE, VERMILION
from race_calc.report.page.monitored import Monitored, halts_of
from race_calc.report.page.parts import Chart, Prose, Section, axis, rounded
from race_calc.uncertainty.decisions import Violation
from race_calc.uncertainty.environments import Environments, Unusual

MOST_CHARTS = 3  # of a halt
OTHER = "The run was made with another model: what its training had is not known here."


def halt_section(seen: Monitored, known: Environments | None, weights: str | None, model: str) -> list[Section]:
    """The last halt of each run shown, where its frame is there; [] without any. known, weights, model: what the training had, where the
    model tells it, the hash of its weights and its name."""
    parts: list[Chart | Prose] = []
    frames = seen.frames
    for number, run in enumerate(seen.shown):
        shown = [(t, one, key) for t, one, key in halts_of(run) if key in frames]
        if not shown:
            continue
        t, violation, key = shown[-1]
        other = weights is not None and run.model is not None and run.model != weights
        beside = compared(frames[key], None if other else known)
        values = run.scores.get(violation["criterion"], np.full(len(run.step), np.nan))
        growth = Growth(violation["criterion"], run.time[: t + 1], values[: t + 1])
        then = [OTHER] if other else [OLDER] * (known is None) + commands(violation["criterion"], seen.flagged, model)
        parts.append(
            Prose(f"Run {run.run or number + 1}", explanation(_reason(violation), frames[key], growth, beside, then), folded=False)
        )
        if beside is not None and known is not None:
            worst = sorted((one for one in beside.unknown if one.known is not None), key=lambda one: -one.excess)[:MOST_CHARTS]
            parts += [_chart(f"halt-{number}-{k}", one, known) for k, one in enumerate(worst or beside.rare[:MOST_CHARTS])]
    lead = "The frame on which the monitor halted beside what the training had. The 3-D viewer has it, too."
    return [Section("halt", "Why did the run end?", lead, parts)] if parts else []


def _reason(violation: Mapping[str, Any]) -> str:
    """As the monitor says it; numbers that are not finite are texts in a log."""
    numbers = {name: float(violation[name]) for name in ("value", "threshold")}
    return str(Violation(**{**violation, **numbers}))


def _chart(key: str, one: Unusual, known: Environments) -> Chart:
    """The histogram of the training, and where the frame is."""
    counts, width = known.counts[one.kind.name][one.elements], one.kind.width
    names = "–".join(chemical_symbols[z] for z in one.elements)
    title = f"{one.kind.name.capitalize()} {names}"
    filled = np.flatnonzero(counts)
    rows = np.arange(filled[0], filled[-1] + 1)
    centres = (rows + (0.0 if one.kind.whole else 0.5)) * width
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
