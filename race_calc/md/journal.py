"""The log of one run: its lines carry the run's id, the first says what is watched."""

import time
import uuid
from pathlib import Path
from typing import Any

from race_calc.md.log import LOG_VERSION, Line, append_line, json_line


class Journal:
    """Appends lines to a log (format: `race_calc.md.log`); with `path` None it writes nothing.

    `run_id` tells this run from others, `now` gives the date of a line.
    """

    def __init__(self, path: str | Path | None):
        self.path = path
        self.run_id = f"r{uuid.uuid4().hex[:12]}"  # a letter, or extxyz reads some ids as numbers
        self._started = False

    def append(self, line: Line, start: Line) -> None:
        """Append a line; ahead of the first one a "start" with the content of `start`."""
        if self.path is None:
            return
        if not self._started:
            self._started = True
            self._write({"event": "start", "version": LOG_VERSION, "date": now(), **start})
        self._write(line)

    def _write(self, line: dict[str, Any]) -> None:
        append_line(self.path, json_line({"event": line["event"], "run": self.run_id, **line}))  # type: ignore[arg-type]


def now() -> str:
    """Date, time and time zone, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
