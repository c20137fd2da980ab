"""A monitored run: scores over time with thresholds, flags and halts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from race_calc.md.log import LoggedRun
from race_calc.report.colours import BLUE, ORANGE, VERMILION
from race_calc.report.page.monitored import Monitored
from race_calc.report.page.parts import Chart, Grid, Prose, Section, Trace, axis, rounded
from race_calc.uncertainty.scores import SCORES

MOST_CHECKS, MOST_ROWS = 1500, 25
MARKS = {"flag": ("circle", ORANGE), "halt": ("diamond", VERMILION)}
LINES = {"flag": (ORANGE, "dash"), "halt": (VERMILION, "dashdot"), "log": ("#555", "dot")}


@dataclass(frozen=True)
class Stretch:
    """Checks one after the other on which the monitor took the same action; `worst`: the largest value over its threshold."""

    action: str
    first: int
    last: int
    start: float
    checks: int
    temperature: float
    worst: Mapping[str, Any]


def run_section(seen: Monitored, model_hash: str | None) -> Section:
    """`model_hash`: of the model of the page, None where it is not known."""
    parts: list[Any] = []
    for number, run in enumerate(seen.shown):
        found = stretches(run)
        parts.append(Prose("", _told(run, found, model_hash)))
        parts += _charts(run, number)
        if found:
            parts.append(_grid(run, found, seen.frames))
    left_out = len(seen.runs) > len(seen.shown)
    lead = f"From {seen.log}." + (f" The last {len(seen.shown)} of {len(seen.runs)} runs are shown." if left_out else "")
    return Section("run", "What did the monitor see in the run?", lead, parts)


def stretches(run: LoggedRun) -> list[Stretch]:
    """Of flags and halts, in their order."""
    found: list[list[int]] = []
    for t, action in enumerate(run.action):
        if action in MARKS:
            if found and found[-1][-1] == t - 1 and run.action[t - 1] == action:
                found[-1].append(t)
            else:
                found.append([t])
    return [_stretch(run, rows) for rows in found]


def _stretch(run: LoggedRun, rows: list[int]) -> Stretch:
    violations = [v for t in rows for v in run.violations[t] if v["action"] in MARKS]
    worst = max(violations, key=_excess, default={})
    t = rows[0]
    action = str(run.action[t])
    return Stretch(action, int(run.step[t]), int(run.step[rows[-1]]), float(run.time[t]), len(rows), float(run.temperature[t]), worst)


def _excess(violation: Mapping[str, Any]) -> float:
    try:
        value = float(violation["value"]) / float(violation["threshold"])
    except (ZeroDivisionError, TypeError, ValueError):
        return np.inf
    return np.inf if np.isnan(value) else value


def _told(run: LoggedRun, found: Sequence[Stretch], model_hash: str | None) -> list[str]:
    halts, flags = ([s for s in found if s.action == action] for action in ("halt", "flag"))
    end = f"{run.step[-1]} steps" + (f", {run.time[-1]:.0f} fs" if np.isfinite(run.time[-1]) else "") if len(run.step) else "no check"
    acted = f"{sum(s.checks for s in flags)} flagged checks, {len(halts)} halt{'s' * (len(halts) != 1)}"
    lines = [f"Run {run.run or ''} of {run.date}: {end}; {acted}."]
    lines += [f"Halt at step {one.first}: {_why(one.worst)}." for one in halts[:3]]
    if model_hash is not None and run.model is not None and run.model != model_hash:
        lines.append(f"Attention: this run was made with another model (weights {str(run.model)[:12]}…), not with the one of this page.")
    changes = [event for event in run.events if event["event"] == "criteria"]
    lines += [f"New thresholds from step {event.get('step')} on ({event.get('why')})." for event in changes[:5]]
    return lines


def _why(violation: Mapping[str, Any]) -> str:
    if not violation:
        return "no reason in the log"
    if violation.get("message"):
        return str(violation["message"])
    name = violation["criterion"]
    label, text = (SCORES[name].label, SCORES[name].text) if name in SCORES else (name, lambda value: f"{value:.3g}")
    where = "" if violation.get("atom_index") is None else f" at atom {violation['atom_index']} ({violation['element']})"
    return f"{label} {text(float(violation['value']))}{where}, threshold {text(float(violation['threshold']))}"


def _charts(run: LoggedRun, number: int) -> list[Chart]:
    if not len(run.step):
        return []
    timed = bool(np.isfinite(run.time).all())
    x, unit = (run.time, "time (fs)") if timed else (run.step.astype(float), "step")
    acted = np.array([action in MARKS for action in run.action])
    even = np.linspace(0, len(x) - 1, min(len(x), MOST_CHECKS)).astype(int)
    shown = np.unique(np.concatenate([even, np.flatnonzero(acted)[:MOST_CHECKS]]))
    names = [name for name in dict.fromkeys(criterion["name"] for criterion in run.criteria) if name in run.scores]
    charts = [_score_chart(run, number, name, x, shown, unit) for name in names]
    if np.isfinite(run.temperature).any():
        trace = {"type": "scatter", "mode": "lines", "name": "atoms", "x": rounded(x[shown], 6), "y": rounded(run.temperature[shown])}
        layout = {"xaxis": axis(unit), "yaxis": axis("temperature (K)", rangemode="tozero")}
        low, high = np.nanmin(run.temperature), np.nanmax(run.temperature)
        summary = f"Temperature from {low:.0f} to {high:.0f} K."
        traces = [trace | {"line": {"color": BLUE, "width": 1.5}}, *_halt_lines(run, x, 0.0, float(high))]
        charts.append(Chart(f"run-{number}-temperature", "Temperature", summary, summary, traces, layout))
    return charts


def _score_chart(run: LoggedRun, number: int, name: str, x: np.ndarray, shown: np.ndarray, unit: str) -> Chart:
    values = run.scores[name]
    row = SCORES.get(name)
    label, of = (row.label, f" ({row.unit})" if row.unit else "") if row is not None else (name, "")
    style = {"line": {"color": BLUE, "width": 1.5}}
    curve = {"x": rounded(x[shown], 6), "y": rounded(values[shown])}
    traces: list[Trace] = [{"type": "scatter", "mode": "lines", "name": "score", **curve, **style}]
    for criterion in (c for c in run.criteria if c["name"] == name):
        colour, dash = LINES.get(criterion["action"], LINES["log"])
        row_ = f", {criterion['consecutive']} in a row" if criterion.get("consecutive", 1) > 1 else ""
        traces.append({
            "type": "scatter", "mode": "lines", "name": f"{criterion['action']} above {float(criterion['threshold']):.3g}{row_}",
            "x": rounded([x[0], x[-1]], 6), "y": rounded([float(criterion["threshold"])] * 2),
            "line": {"color": colour, "dash": dash, "width": 1.5},
        })  # fmt: skip
    counts = {}
    for action, (symbol, colour) in MARKS.items():
        at = [t for t in range(len(x)) if any(v["criterion"] == name and v["action"] == action for v in run.violations[t])]
        counts[action] = len(at)
        if at:
            marker = {"symbol": symbol, "color": colour, "size": 8 if action == "flag" else 13, "line": {"color": "#222", "width": 1}}
            some = np.array(at[:MOST_CHECKS])
            trace = {"type": "scatter", "mode": "markers", "name": action, "x": rounded(x[some], 6), "y": rounded(values[some])}
            traces.append(trace | {"marker": marker, "text": [f"step {run.step[t]}" for t in some]})
    finite = values[np.isfinite(values)]
    top = f", at most {finite.max():.3g}" if len(finite) else ""
    acted = f"Checks at which it led to a flag: {counts['flag']}, to a halt: {counts['halt']}."
    summary = f"{label[:1].upper() + label[1:]} over the run{top}. {acted}"
    layout = {"xaxis": axis(unit), "yaxis": axis(label + of, rangemode="tozero")}
    return Chart(f"run-{number}-{name.replace('_', '-')}", label[:1].upper() + label[1:], summary, summary, traces, layout)


def _halt_lines(run: LoggedRun, x: np.ndarray, low: float, high: float) -> list[Trace]:
    at = [float(x[t]) for t, action in enumerate(run.action) if action == "halt"]
    if not at:
        return []
    style = {"color": VERMILION, "dash": "dashdot", "width": 1.5}
    xs = [value for one in at for value in (one, one, None)]
    return [{"type": "scatter", "mode": "lines", "name": "halt", "x": xs, "y": [low, high, None] * len(at), "line": style}]


def _grid(run: LoggedRun, found: Sequence[Stretch], frames: Mapping[str, Atoms]) -> Grid:
    shown = found if len(found) <= MOST_ROWS else [*found[: MOST_ROWS - 5], *found[-5:]]
    rows, links = [], {}
    for i, one in enumerate(shown):
        steps = f"{one.first}" if one.first == one.last else f"{one.first}–{one.last}"
        time = f"{one.start:.0f}" if np.isfinite(one.start) else "–"
        temperature = f"{one.temperature:.0f}" if np.isfinite(one.temperature) else "–"
        rows.append([f"{one.action}, step {steps}", str(one.checks), time, temperature, _why(one.worst)])
        steps_of = [(int(atoms.info["step"]), key) for key, atoms in frames.items() if str(atoms.info.get("run")) == run.run]
        inside = [key for step, key in steps_of if one.first <= step <= one.last]
        if inside:
            links[i] = inside[0]
    note = "Buttons show the saved frame in the 3-D viewer." if links else "No saved frame of these was found beside the log."
    if len(found) > MOST_ROWS:
        note += f" {len(found) - MOST_ROWS} rows are left out."
    return Grid("Flags and halts", ["what", "checks", "from, fs", "K", "worst"], rows, note, links=links)
