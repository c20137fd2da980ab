"""race-calc train: from a configuration and data to a model folder."""

from pathlib import Path
from typing import Annotated

import typer

from race_calc.cli.app import command
from race_calc.cli.factory import BASELINE, baseline_from


@command("train")
def train(
    config: Annotated[Path, typer.Argument(help="YAML configuration, see models/3bpa-de/train.yaml")],
    out: Annotated[Path, typer.Option(help="folder of the run and of the finished model")],
    data: Annotated[Path | None, typer.Option(help="folder that data paths are relative to; default: that of CONFIG")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    baseline: Annotated[str | None, typer.Option(help=BASELINE)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
) -> None:
    """Train all members of a posterior in one run.

    The run can be killed at any moment; with --resume it ends with the same weights.
    """
    from rich.progress import Progress

    from race_calc.cli.progress import TrainingProgress
    from race_calc.model.hardware import keep_freed_memory, torch_device
    from race_calc.posterior.base import by_name
    from race_calc.train.config import load_config
    from race_calc.train.finish import finish
    from race_calc.train.loop import train as run
    from race_calc.train.prepare import prepare
    from race_calc.uncertainty.thresholds import FEWEST

    keep_freed_memory()
    settings = load_config(config)
    chosen = torch_device(device)
    with Progress(transient=True) as bar:
        task = bar.add_task("baseline", total=None, visible=settings.model.baseline not in ("zbl", "none"))
        folder = config.parent if data is None else data
        prepared = prepare(settings, folder, baseline_from(baseline), lambda done, total: bar.update(task, completed=done, total=total))
    with TrainingProgress(settings, prepared) as progress:
        trained = run(settings, prepared, out, chosen, resume, progress)
    with Progress() as bar:
        task = bar.add_task("posterior", total=None, visible=by_name(settings.posterior).post_hoc)
        made = finish(settings, prepared, trained, out, chosen, lambda done, total: bar.update(task, completed=done, total=total))
    if settings.model.targets:
        print(f"The model is in {out}: race_calc.PropertyModel({str(out)!r})")
        return
    if not made.thresholds:
        print(f'No thresholds "auto" for the monitor: they take {FEWEST} validation structures, or race-calc calibrate {out} held_back.xyz')
    print(f"The model is in {out}: race_calc.RACECalculator({str(out)!r})")
