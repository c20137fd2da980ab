"""race-calc plot: learning curves of a training, while it runs or after it, and the finished model against its validation structures."""

from pathlib import Path
from typing import Annotated

import typer

from race_calc.cli.app import command
from race_calc.cli.factory import BASELINE, baseline_from


@command("plot")
def plot(
    folder: Annotated[Path, typer.Argument(help="folder of a training (--out of race-calc train)")],
    out: Annotated[Path | None, typer.Option(help="PNG, PDF or SVG file; default: learning_curves.png in the folder")] = None,
    data: Annotated[Path | None, typer.Option(help="folder of the data of a finished training: draw validation.png, too")] = None,
    baseline: Annotated[str | None, typer.Option(help=BASELINE)] = None,
) -> None:
    """Draw errors, loss, rate and skipped steps by epoch; where the data are given also predictions and σ against references."""
    from race_calc.report.training import CURVES, learning_curves, read_records

    file = folder / CURVES if out is None else out
    learning_curves(read_records(folder)).savefig(file, dpi=200)
    print(f"Figure: {file}")
    if data is not None:
        from race_calc.cli.train import VALIDATION, draw_validation
        from race_calc.posterior.checkpoint import load_checkpoint
        from race_calc.train.config import parse_config
        from race_calc.train.labels import read_labelled

        made = load_checkpoint(folder, calibration=False)
        if made.surfaces:
            raise ValueError("--data: of several states or of properties there is no such figure: race-calc evaluate shows their errors")
        found = read_labelled(parse_config(made.training["config"]), data, [])
        if found.hash != made.data["sha256"]:
            raise ValueError(f"the data in {data} are not those of the training: their hash is {found.hash[:12]}…")
        draw_validation(folder, found.validation, file.with_name(VALIDATION), baseline_from(baseline))
