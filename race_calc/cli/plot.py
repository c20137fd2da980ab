"""race-calc plot: learning curves of a training, while it runs or after it."""

from pathlib import Path
from typing import Annotated

import typer

from race_calc.cli.app import command


@command("plot")
def plot(
    folder: Annotated[Path, typer.Argument(help="folder of a training (--out of race-calc train)")],
    out: Annotated[Path | None, typer.Option(help="PNG, PDF or SVG file; default: learning_curves.png in the folder")] = None,
) -> None:
    """Draw errors, loss, rate and skipped steps by epoch."""
    from race_calc.report.training import CURVES, learning_curves, read_records

    file = folder / CURVES if out is None else out
    learning_curves(read_records(folder)).savefig(file, dpi=200)
    print(f"Figure: {file}")
