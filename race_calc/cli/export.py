"""race-calc export: a model for programs without Python."""

from pathlib import Path
from typing import Annotated

import typer

from race_calc.cli.app import app, command

export = typer.Typer(name="export", no_args_is_help=True, help="Write a model for programs without Python.")
app.add_typer(export, name="export")


@command("c", export)
def c(
    model: Annotated[Path, typer.Argument(help="folder of the model")],
    out: Annotated[Path, typer.Argument(help="file to write, such as model.race")],
    dtype: Annotated[str, typer.Option(help="float64 or float32: the numbers of the network")] = "float64",
    calibrated: Annotated[bool, typer.Option(help="write the calibration of the model, where it has one")] = True,
) -> None:
    """One file for race.h, the interface in C: energies, forces, variances and covariances of every member, and the calibration."""
    import torch

    from race_calc.interfaces.export import export as write
    from race_calc.model.kernels.build import FOLDER
    from race_calc.posterior.checkpoint import load_checkpoint

    if dtype not in ("float64", "float32"):
        raise ValueError(f"--dtype is {dtype}: use float64 or float32")
    out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = load_checkpoint(model, calibration=calibrated)
    size = write(checkpoint, out, getattr(torch, dtype))
    told = "not calibrated" if checkpoint.calibration is None else "calibrated"
    print(f"{out}: {size / 2**20:.1f} MiB, {dtype}, {told}. Its interface is {FOLDER / 'race.h'}")
