"""A run as its log tells it now: for the terminal, and as a page that loads itself anew."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from race_calc.md.log import LoggedRun
from race_calc.uncertainty.scores import SCORES

RECENT = 60  # checks of the little curve
BLOCKS = "▁▂▃▄▅▆▇█"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="{seconds}">
<meta name="viewport" content="width=device-width"><title>{title}</title>
<style>body{{font:16px/1.4 sans-serif;margin:1em;max-width:60em}}td,th{{padding:.2em .8em .2em 0;text-align:left}}
.over{{font-weight:bold}}</style></head><body><main><h1>{title}</h1><p>{state}</p>
<table><thead><tr><th scope="col">score</th><th scope="col">now</th><th scope="col">threshold</th><th scope="col">lately</th></tr></thead>
<tbody>{rows}</tbody></table><h2>What the monitor did</h2><ul>{acts}</ul></main></body></html>
"""


def now_of(run: LoggedRun) -> dict[str, Any]:
    """Step, time, temperature, energy; of each score that is watched its value, smallest threshold and recent values; the last violations
    that were acted on; why it was halted, or None; whether it has ended. Raises ValueError for a run without a check."""
    if not len(run.step):
        raise ValueError("the run has no check yet: wait for the first one")
    limits: dict[str, float] = {}
    changed = [event["criteria"] for event in run.events if event["event"] == "criteria"]
    for criterion in changed[-1] if changed else run.criteria:
        if criterion["name"] in run.scores:
            limits[criterion["name"]] = min(float(criterion["threshold"]), limits.get(criterion["name"], np.inf))
    acted = [violation for violations in run.violations for violation in violations if violation["action"] in ("flag", "halt")]
    scores = {
        name: {"now": float(run.scores[name][-1]), "threshold": limit, "lately": run.scores[name][-RECENT:]}
        for name, limit in limits.items()
    }
    accepted = any(event["step"] >= run.step[-1] and (event["event"] == "silent" or event.get("why") == "accepted") for event in run.events)
    halted = run.action[-1] == "halt" and not accepted
    return {
        "step": int(run.step[-1]),
        "time": float(run.time[-1]),
        "temperature": float(run.temperature[-1]),
        "energy": float(run.energy[-1]),
        "scores": scores,
        "acted": acted[-5:],
        "flags": sum(violation["action"] == "flag" for violation in acted),
        "halt": acted[-1] if halted and acted else None,
        "ended": has_ended(run),
    }


def has_ended(run: LoggedRun) -> bool:
    return bool(run.events) and run.events[-1]["event"] == "detach"


def shown_of(runs: Sequence[LoggedRun]) -> LoggedRun:
    """The last run, but for those that ended before their first check."""
    return next((run for run in reversed(runs) if len(run.step) or not has_ended(run)), runs[-1])


def in_terminal(now: dict[str, Any]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("score", "now", "threshold", "lately"):
        table.add_column(column)
    for name, score in now["scores"].items():
        style = "bold red" if not score["now"] <= score["threshold"] else ""
        row = SCORES.get(name)
        unit = row.unit if row else ""
        table.add_row(
            row.label if row else name, f"{score['now']:.3g}", f"{score['threshold']:.3g} {unit}", curve(score["lately"]), style=style
        )
    return Group(Text(state_line(now), style="bold"), table, *(Text(told(violation)) for violation in now["acted"]))


def page(now: dict[str, Any], title: str, seconds: int) -> str:
    rows = ""
    for name, score in now["scores"].items():
        row, over = SCORES.get(name), not score["now"] <= score["threshold"]
        label, unit = (row.label, row.unit) if row else (name, "")
        mark = ' class="over"' if over else ""
        cells = (f"{label}{' (above)' if over else ''}", f"{score['now']:.3g}", f"{score['threshold']:.3g} {unit}", curve(score["lately"]))
        rows += f"<tr{mark}>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
    acts = "".join(f"<li>{escape(told(violation))}</li>" for violation in now["acted"]) or "<li>nothing</li>"
    return PAGE.format(title=escape(title), seconds=seconds, state=escape(state_line(now)), rows=rows, acts=acts)


def state_line(now: dict[str, Any]) -> str:
    parts = [f"step {now['step']}"]
    if np.isfinite(now["time"]):
        parts += [f"{now['time'] / 1000:.2f} ps", f"{now['temperature']:.0f} K"]
    parts += [f"energy {now['energy']:.4f} eV", f"{now['flags']} flags"]
    return "  ".join([*parts, "HALTED" if now["halt"] else "ended" if now["ended"] else "running"])


def told(violation: dict[str, Any]) -> str:
    where = "" if violation.get("atom_index") is None else f" at atom {violation['atom_index']}"
    return f"{violation['action']} at step {violation['step']}: {violation['criterion']} = {violation['value']:.3g}{where}"


def curve(values: np.ndarray) -> str:
    """Heights of the recent values, from the smallest to the largest; a blank where there is none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return ""
    low, span = finite.min(), max(float(np.ptp(finite)), 1e-300)
    return "".join(BLOCKS[int((len(BLOCKS) - 1) * (value - low) / span)] if np.isfinite(value) else " " for value in values)
