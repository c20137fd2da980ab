"""What a command tells of a run under the monitor: each score once, when it first flags, and at the end why the run was halted."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from race_calc.md.record import MonitorRecord

HALTED = 3  # exit status


class Checks:
    """Counts the flagged checks and prints the first of each score; the log of the monitor has all of them."""

    def __init__(self, console: "Console"):
        self._console, self._told, self.flagged = console, set[str](), 0
        logging.getLogger("race_calc.monitor").addHandler(logging.NullHandler())  # a halt is told at the end, not twice

    def tell(self, record: "MonitorRecord") -> None:
        """Of one check, while the run goes on."""
        flags = [one for one in record.decision.acting if one.action == "flag"]
        self.flagged += bool(flags)
        for one in flags:
            if one.criterion not in self._told:
                self._told.add(one.criterion)
                self._console.print(f"first {one}", markup=False, highlight=False, soft_wrap=True)

    def lines(self, flagged: Path, explanation: str) -> list[str]:
        """After the run. flagged: the file of such frames; explanation: of the halt, or ""."""
        said = f"{self.flagged} check{'s were' if self.flagged > 1 else ' was'} flagged"
        frames = f": {flagged} has frames of them" if flagged.exists() else ""
        return [*([f"{said}{frames}."] if self.flagged else []), *([f"The monitor ended the run: {explanation}"] if explanation else [])]
