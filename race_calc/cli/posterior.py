"""race-calc posterior fit: a posterior for a model that is trained already."""

from pathlib import Path
from typing import Annotated

import typer

from race_calc.cli.app import app, command
from race_calc.cli.factory import BASELINE, Model, baseline_from
from race_calc.posterior.validation import errors_text

posterior = typer.Typer(name="posterior", help="Posteriors for models that are trained already.", no_args_is_help=True)
app.add_typer(posterior)


def _post_hoc_methods() -> list[str]:
    from race_calc.posterior.base import by_name, names

    return [name for name in names() if by_name(name).post_hoc]


@command("fit", posterior)
def fit(
    model: Model,
    method: Annotated[
        str, typer.Option(help="what to fit, such as llpr or, for a model with head mse, laplace", autocompletion=_post_hoc_methods)
    ],
    out: Annotated[Path, typer.Option(help="folder of the new model")],
    data: Annotated[Path, typer.Option(help="folder that the data paths of the training are relative to")],
    members: Annotated[int | None, typer.Option(help="parameter sets to draw; left out: as many as the method takes by itself")] = None,
    member: Annotated[int, typer.Option(help="which member of the model to take")] = 0,
    seed: Annotated[int, typer.Option(help="of the draws")] = 0,
    mean: Annotated[str | None, typer.Option(help="the means: map or draws (laplace); left out: what was measured to be better")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    baseline: Annotated[str | None, typer.Option(help=BASELINE)] = None,
) -> None:
    """Fit a posterior to the data that the model was trained on; the model itself stays as it is."""
    from rich.progress import Progress

    from race_calc.model.hardware import keep_freed_memory, torch_device
    from race_calc.posterior.checkpoint import CARD, WEIGHTS, load_checkpoint
    from race_calc.train.files import STATE_FILE
    from race_calc.train.fit import Request, fit_posterior

    keep_freed_memory()
    checkpoint = load_checkpoint(model, calibration=False)
    if any((out / name).exists() for name in (WEIGHTS, STATE_FILE, CARD)):
        raise FileExistsError(f"{out} holds a model or a training run: give another --out")
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file: give a folder as --out")
    with Progress() as bar:
        task = bar.add_task(method, total=None)
        made = fit_posterior(
            checkpoint,
            Request(method, members, member, seed, mean),
            data,
            out,
            torch_device(device),
            lambda done, total: bar.update(task, completed=done, total=total),
            baseline_from(baseline),
        )
    record = made.training["posterior"]
    for name in ("prior_precision", "temperature", "calibration", "force_errors_over_variances"):
        if name in record:
            print(f"{name.replace('_', ' ')}: {record[name]:.4g}")
    if made.noise is not None:
        print(f"noise: {1e3 * made.noise.energy**0.5:.2f} meV per √atom, {1e3 * made.noise.forces**0.5:.2f} meV/Å")
    before, after = record["validation_of_the_model"], made.training["validation"]
    print(f"validation RMSE, the model {errors_text(before)}; mean of the draws {errors_text(after)}")
    if "mean" in record:
        print(f"It predicts the {'model itself' if made.center else 'mean of the draws'}, with the spread of the draws; --mean chooses")
    print(f"The model is in {out}: race_calc.RACECalculator({str(out)!r})")
