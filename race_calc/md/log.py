"""The monitor's log: strict JSON lines, and the way back to arrays. NumPy only.

Each line carries its `run`. Version 2; lines of version 1 (before there were run ids) are read too.

=========== ========================================================================================
event       what it tells
=========== ========================================================================================
start       version, run, model (hash of the weights or None), date, dynamics, criteria with numbers
step        `MonitorRecord`: step, time (fs), temperature (K), energy (eV), scores, violations, action; in a cell volume
            (Å³), density (g/cm³), pressure (GPa)
criteria    new criteria, since `step`, and why: set, accepted, another calculator
silent      after `accept(checks)`: so many checks without an action
detach      the end of the monitor
=========== ========================================================================================
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

LOG_VERSION = 2
Line = dict[str, Any]


@dataclass(frozen=True, eq=False)
class LoggedRun:
    """One run of a log with T checked steps.

    =========== ===================== ==== ================================================================
    field       shape                 unit meaning
    =========== ===================== ==== ================================================================
    run, model  str or None                run id, hash of the model; None in logs of version 1
    date        str                        of the start
    criteria    dicts                      name, threshold, action, consecutive: those of the start
    step        (T,) int
    time        (T,)                  fs   NaN for an optimiser
    temperature (T,)                  K    NaN for an optimiser
    energy      (T,)                  eV
    volume      (T,)                  Å³   NaN without a cell, and in logs of earlier releases; likewise
    density     (T,)                       in g/cm³
    pressure    (T,)                  GPa
    scores      name → (T,)                NaN where a step has no such score
    action      T of None, log, flag, halt what the monitor did
    violations  T tuples of dicts          fields of `race_calc.uncertainty.decisions.Violation`
    events      dicts                      all other lines
    =========== ===================== ==== ================================================================
    """

    run: str | None
    model: str | None
    date: str
    criteria: tuple[Line, ...]
    step: np.ndarray
    time: np.ndarray
    temperature: np.ndarray
    energy: np.ndarray
    volume: np.ndarray
    density: np.ndarray
    pressure: np.ndarray
    scores: dict[str, np.ndarray]
    action: tuple[str | None, ...]
    violations: tuple[tuple[Line, ...], ...]
    events: tuple[Line, ...]


def read_log(path: str | Path) -> tuple[LoggedRun, ...]:
    """The runs of a log file in the order of their start; a line that a killed run left half written is skipped.

    Raises FileNotFoundError for a missing file, ValueError for a file that is no log of the monitor or of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no log {path}: give the `logfile` of an UncertaintyMonitor")
    runs: dict[str, list[Line]] = {}
    current = ""
    for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if not isinstance(line, dict) or "event" not in line:
            raise ValueError(f"line {number} of {path} is not one of a monitor's log: give the `logfile` of an UncertaintyMonitor")
        if line["event"] == "start":
            if not isinstance(line.get("version", 1), int):
                raise ValueError(f"line {number} of {path} has the version {line['version']!r}, which is no number: it is damaged")
            if line.get("version", 1) > LOG_VERSION:
                raise ValueError(f"{path} has version {line['version']}, this race_calc reads up to {LOG_VERSION}: upgrade race_calc")
            current = line.get("run") or f"line {number}"
            runs.setdefault(current, [line])
        elif line.get("run", current) in runs:
            runs[line.get("run", current)].append(line)
    if not runs:
        raise ValueError(f"{path} holds no run of a monitor: its first line would say so")
    try:
        return tuple(_run(lines) for lines in runs.values())
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} has a line without what each has ({error}): it is damaged or no log of a monitor") from error


def _run(lines: list[Line]) -> LoggedRun:
    start, steps = lines[0], [line for line in lines if line["event"] == "step"]
    names = dict.fromkeys(name for line in steps for name in line["scores"])
    return LoggedRun(
        run=start.get("run"),
        model=start.get("model"),
        date=start["date"],
        criteria=tuple(start["criteria"]),
        step=np.array([line["step"] for line in steps], dtype=np.int64),
        time=_numbers(line["time"] for line in steps),
        temperature=_numbers(line["temperature"] for line in steps),
        energy=_numbers(line["energy"] for line in steps),
        **{name: _numbers(line.get(name) for line in steps) for name in ("volume", "density", "pressure")},
        scores={name: _numbers(line["scores"].get(name) for line in steps) for name in names},
        action=tuple(line["action"] for line in steps),
        violations=tuple(tuple(_violation(one) for one in line["violations"]) for line in steps),
        events=tuple(line for line in lines[1:] if line["event"] != "step"),
    )


def _violation(line: Line) -> Line:
    return line | {name: float(line[name]) for name in ("value", "threshold") if line.get(name) is not None}


def _numbers(values: Iterable[Any]) -> np.ndarray:
    return np.array([np.nan if value is None else float(value) for value in values])  # "nan" and "inf" are strings


def json_line(content: Line) -> str:
    """Strict JSON on one line. Numbers that are not finite become the strings "nan", "inf", "-inf"."""
    return json.dumps(_strict(content), allow_nan=False)


def append_line(path: str | Path, line: str) -> None:
    """Append a line and hand it to the operating system at once.

    A last line that a killed run left without its end is closed first.
    """
    with open(path, "ab+") as file:
        if file.tell() > 0:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _strict(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    return value
