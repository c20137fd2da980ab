"""race-calc join: one model of members that were trained in several runs."""

from pathlib import Path
from typing import Annotated

import typer

from race_calc.cli.app import command
from race_calc.cli.factory import BASELINE


@command("join")
def join(
    config: Annotated[Path, typer.Argument(help="YAML configuration of the runs")],
    out: Annotated[Path, typer.Option(help="their --out: the folder of the runs, and of the model")],
    data: Annotated[Path | None, typer.Option(help="folder that data paths are relative to; default: that of CONFIG")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    baseline: Annotated[str | None, typer.Option(help=BASELINE)] = None,
) -> None:
    """Join members that `race-calc train --members` has trained to the model that one run of all of them makes."""
    from race_calc.cli.train import finished, prepared
    from race_calc.model.hardware import keep_freed_memory, torch_device
    from race_calc.train.config import load_config
    from race_calc.train.shards import joined

    keep_freed_memory()
    settings, chosen = load_config(config), torch_device(device)
    whole = prepared(settings, config.parent if data is None else data, baseline)
    finished(settings, whole, joined(settings, whole, out, chosen), out, device)
