"""race-calc export: a model for programs without this package."""

from pathlib import Path
from typing import Annotated, Any

import typer

from race_calc.cli.app import app, command
from race_calc.cli.factory import Model

export = typer.Typer(name="export", no_args_is_help=True, help="Write a model for programs without this package.")
app.add_typer(export, name="export")


@command("c", export)
def c(
    model: Model,
    out: Annotated[Path, typer.Argument(help="file to write, such as model.race")],
    dtype: Annotated[str, typer.Option(help="float64 or float32: the numbers of the network")] = "float64",
    calibrated: Annotated[bool, typer.Option(help="write the calibration of the model, where it has one")] = True,
) -> None:
    """One file for race.h, the interface in C: energies, forces, variances and covariances of every member, and the calibration."""
    from race_calc.interfaces.export import export as write
    from race_calc.model.kernels.build import FOLDER
    from race_calc.posterior.checkpoint import load_checkpoint

    numbers = _dtype(dtype)
    out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = load_checkpoint(model, calibration=calibrated)
    size = write(checkpoint, out, numbers)
    told = "not calibrated" if checkpoint.calibration is None else "calibrated"
    print(f"{out}: {size / 2**20:.1f} MiB, {dtype}, {told}. Its interface is {FOLDER / 'race.h'}")


@command("metatomic", export)
def metatomic(
    model: Model,
    out: Annotated[Path, typer.Argument(help="file to write, such as model.pt")],
    dtype: Annotated[str, typer.Option(help="float64 or float32: the numbers of the network")] = "float64",
) -> None:
    """One file for the engines of metatomic (extra `metatomic`), calibrated where the model is: energies, their σ and members, σ and
    covariance of forces."""
    from race_calc.interfaces.metatomic.export import export as write
    from race_calc.posterior.checkpoint import load_checkpoint

    names = write(load_checkpoint(model), out, _dtype(dtype))
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB, {dtype}. Outputs: {', '.join(names)}")


def _dtype(name: str) -> Any:
    if name not in ("float64", "float32"):
        raise ValueError(f"--dtype is {name}: use float64 or float32")
    import torch

    return getattr(torch, name)
