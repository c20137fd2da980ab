"""race-calc watch: a monitored run while it goes on."""

import time
from pathlib import Path
from typing import Annotated

import typer

from race_calc.cli.app import command


@command("watch")
def watch(
    log: Annotated[Path, typer.Argument(help="log of the monitor, such as monitor.jsonl")],
    html: Annotated[Path | None, typer.Option(help="also keep this page up to date, which loads itself anew")] = None,
    once: Annotated[bool, typer.Option("--once", help="show what there is, and end")] = False,
    every: Annotated[float, typer.Option(min=0.2, help="seconds from one look to the next")] = 2.0,
) -> None:
    """Show step, temperature, scores against their thresholds and what the monitor did, until the run has ended, or Ctrl-C."""
    from rich.live import Live

    from race_calc.data.files import write_atomically
    from race_calc.md.log import read_log
    from race_calc.report.live import in_terminal, now_of, page, shown_of

    with Live(refresh_per_second=4) as live:
        while True:
            now = now_of(shown_of(read_log(log)))
            live.update(in_terminal(now))
            if html is not None:
                write_atomically(html, page(now, f"race-calc watch {log.name}", max(1, round(every))).encode())
            if once or now["ended"] or now["halt"] is not None:
                return
            time.sleep(every)
