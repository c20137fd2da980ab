"""race-calc train: from a configuration and data to a model folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from race_calc.cli.app import command
from race_calc.cli.factory import BASELINE, baseline_from, given

if TYPE_CHECKING:
    from race_calc.data.dataset import Dataset
    from race_calc.posterior.state import Trained
    from race_calc.train.config import TrainConfig
    from race_calc.train.prepare import Prepared

VALIDATION = "validation.png"


@command("train")
def train(
    config: Annotated[Path | None, typer.Argument(help="YAML configuration, see models/3bpa-de/train.yaml")] = None,
    out: Annotated[Path, typer.Option(help="folder of the run and of the finished model")] = ...,  # type: ignore[assignment]
    data: Annotated[Path | None, typer.Option(help="folder that data paths are relative to; default: that of CONFIG")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    baseline: Annotated[str | None, typer.Option(help=BASELINE)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
    start: Annotated[Path | None, typer.Option("--from", help="in place of CONFIG: the folder of a model that is to learn more")] = None,
    add: Annotated[list[Path] | None, typer.Option(help="with --from: a file of new labels; may be given several times")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="with --from; default: a quarter of the time of the model's")] = None,
    members: Annotated[str | None, typer.Option(help="these alone, such as 0:5, or rank (of RANK, WORLD_SIZE); then join")] = None,
) -> None:
    """Train all members of a posterior in one run, or let a finished model learn from more labels.

    The run can be killed at any moment; with --resume it ends with the same weights.
    """
    from race_calc.train.config import load_config

    if (config is None) == (start is None):
        raise ValueError("give either CONFIG or --from MODEL with --add FILE")
    if config is not None:
        if told := given({"--add": add, "--epochs": epochs}):
            raise ValueError(f"{told} go with --from: leave them out")
        _run(load_config(config), config.parent if data is None else data, out, device, baseline, resume, members)
        return
    if members is not None:
        raise ValueError("--members goes with CONFIG: leave it out, all members of a model go on together")
    from race_calc.train.continued import CONFIG, has_begun

    begun = resume and has_begun(out)  # killed before that, it begins
    settings = load_config(out / CONFIG) if begun else _continued(start or Path(), add or [], data, out, epochs, baseline)
    _run(settings, out, out, device, baseline, begun)
    _calibrate_again(out, device)


def _run(
    settings: "TrainConfig", folder: Path, out: Path, device: str, baseline: str | None, resume: bool, members: str | None = None
) -> None:
    from race_calc.cli.progress import TrainingProgress
    from race_calc.model.hardware import keep_freed_memory, torch_device
    from race_calc.train.loop import train as run
    from race_calc.train.shards import folder_of, members_of, shard

    keep_freed_memory()
    mine, chosen = None if members is None else members_of(members, settings), torch_device(device)
    whole = prepared(settings, folder, baseline)
    part, own, place = (settings, whole, out) if mine is None else (*shard(settings, whole, mine), folder_of(out, mine))
    with TrainingProgress(part, own) as progress:
        trained = run(part, own, place, chosen, resume, progress)
    if mine is None:
        finished(settings, whole, trained, out, device)
    else:
        print(f"Members {mine.start}:{mine.stop} of {settings.trained} are trained; when all are: race-calc join CONFIG --out {out}")


def prepared(settings: "TrainConfig", folder: Path, baseline: str | None) -> "Prepared":
    """Data and first weights, with a bar for the structures whose baseline has to be computed."""
    from rich.progress import Progress

    from race_calc.train.prepare import prepare

    with Progress(transient=True) as bar:
        task = bar.add_task("baseline", total=None, visible=settings.model.baseline not in ("zbl", "none"))
        return prepare(settings, folder, baseline_from(baseline), lambda done, total: bar.update(task, completed=done, total=total))


def finished(settings: "TrainConfig", prepared: "Prepared", trained: "Trained", out: Path, device: str) -> None:
    """Make the model of a training that is at its end, draw it and say where it is."""
    from rich.progress import Progress

    from race_calc.model.hardware import torch_device
    from race_calc.posterior.base import by_name
    from race_calc.train.finish import finish
    from race_calc.uncertainty.thresholds import FEWEST

    chosen = torch_device(device)
    with Progress() as bar:
        task = bar.add_task("posterior", total=None, visible=by_name(settings.posterior).post_hoc)
        made = finish(settings, prepared, trained, out, chosen, lambda done, total: bar.update(task, completed=done, total=total))
    _draw(out)
    if prepared.held is not None and not settings.model.has_surfaces:
        try:
            draw_validation(out, prepared.held, out / VALIDATION, prepared.external)
        except Exception as error:  # the model is made: a picture that fails must not end a training
            print(f"No figure of the validation structures: {error}")
    if settings.model.targets:
        print(f"The model is in {out}: race_calc.PropertyModel({str(out)!r})")
        return
    if not made.thresholds:
        print(f'No thresholds "auto" for the monitor: they take {FEWEST} validation structures, or race-calc calibrate {out} held_back.xyz')
    print(f"The model is in {out}: race_calc.RACECalculator({str(out)!r})")


def _draw(out: Path) -> None:
    """Learning curves, where the training has a log that they can be drawn from."""
    from race_calc.report.training import CURVES, learning_curves, read_records

    try:
        learning_curves(read_records(out)).savefig(out / CURVES, dpi=200)
    except (ValueError, KeyError):  # joined from parts, or properties, whose log is another
        return
    print(f"Learning curves: {out / CURVES}")


def draw_validation(model: Path, held: "Dataset", file: Path, external: Any = None) -> None:
    """Predictions and σ of a finished model against its validation structures."""
    from race_calc.evaluate.predict import predict_dataset, residuals_of
    from race_calc.interfaces.calculator import RACECalculator
    from race_calc.report.parity import parity_figure

    if not len(held):
        return
    calculator = RACECalculator(model, "cpu", calibrated=False, baseline=external)
    residuals = residuals_of(predict_dataset(calculator, held), held)
    parity_figure(residuals, held, calculator.checkpoint.references).savefig(file, dpi=200)
    print(f"Validation: {file}")


def _continued(model: Path, added: list[Path], data: Path | None, out: Path, epochs: int | None, baseline: str | None) -> "TrainConfig":
    """The configuration of a training that goes on; its data are written to `out`. Warns of labels of another level."""
    from race_calc.evaluate.predict import predict_dataset, residuals_of
    from race_calc.evaluate.reference_level import other_level
    from race_calc.interfaces.calculator import RACECalculator
    from race_calc.posterior.checkpoint import load_checkpoint
    from race_calc.train.continued import continued

    if not added:
        raise ValueError("--from needs new labels: give --add FILE")
    made = continued(load_checkpoint(model, calibration=False), model, added, data, out, epochs)
    again = f"; {made.again} known already, left out" if made.again else ""
    parts = "{train} structures to train on, {validation} to validate, {calibration} to calibrate with".format(**made.parts)
    print(f"{parts}{again}; all are in {out / 'data'}")
    predictor = RACECalculator(model, "cpu", calibrated=False, baseline=baseline_from(baseline))
    for warning in other_level(residuals_of(predict_dataset(predictor, made.new), made.new)):
        print(f"Warning: of the new labels {warning}.")
    return made.config


def _calibrate_again(out: Path, device: str) -> None:
    """With what was held back of the new labels, and of those before."""
    from race_calc.cli.calibrate import calibrate
    from race_calc.data.dataset import read_dataset
    from race_calc.train.continued import CALIBRATION, DATA
    from race_calc.uncertainty.thresholds import FEWEST  # with fewer the model would lose the thresholds of its training

    path = out / DATA / CALIBRATION
    held = len(read_dataset(path)) if path.is_file() else 0
    if held < FEWEST:
        print(f"Not calibrated: {held} structures are held back for it, {FEWEST} are the fewest; race-calc calibrate {out} held_back.xyz")
        return
    calibrate(str(out), str(path), device=device)
