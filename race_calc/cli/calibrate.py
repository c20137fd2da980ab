"""race-calc calibrate: recalibrate the uncertainties of a model with data that it was not trained on."""

import os
from pathlib import Path
from typing import Annotated

import typer

from race_calc.cli.app import command


@command("calibrate")
def calibrate(
    model: Annotated[Path, typer.Argument(help="folder of the model; its calibration is written or replaced")],
    data: Annotated[str, typer.Argument(help="file with energies and forces of structures that were not trained on")],
    frames: Annotated[str, typer.Option(help="which frames of the file, as in ASE: 450: or ::2")] = ":",
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Give the uncertainties an honest scale, and the monitor thresholds with a stated rate of false alarms.

    The data must be of the kind on which the model is to be trusted; RACECalculator then uses the calibration.
    """
    import torch
    from rich.console import Console
    from rich.progress import Progress
    from rich.text import Text

    from race_calc.calculator import StackPredictor
    from race_calc.checkpoint import hash_weights, load_checkpoint, save_calibration
    from race_calc.cli.calibrate_report import floor_line, small_set_warnings, summary_table
    from race_calc.cli.info import wide_console
    from race_calc.data.dataset import read_dataset
    from race_calc.device import torch_device
    from race_calc.evaluate import residuals_of
    from race_calc.memory import keep_freed_memory
    from race_calc.ood.thresholds import FALSE_ALARM_RATE
    from race_calc.posterior.stack import load_stack
    from race_calc.recalibrate import calibrate, check_held_back, doubts

    keep_freed_memory()
    checkpoint = load_checkpoint(model, calibration=False)  # whatever is there is replaced
    weights = hash_weights(model)
    if not os.access(model, os.W_OK):
        raise PermissionError(f"{model} cannot be written to: copy the model folder and calibrate the copy")
    dataset = read_dataset(data, frames)
    console = wide_console()
    for warning in check_held_back(checkpoint.data.get("structures"), dataset) + small_set_warnings(len(dataset)):
        console.print(Text(f"Warning: {warning}.", style="yellow"))
    predictor = StackPredictor(load_stack(checkpoint, torch.float64, torch_device(device)))
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("predicting", total=len(dataset))
        found, raw = calibrate(predictor, dataset, lambda done, _: bar.update(task, completed=done))
    residuals = residuals_of(raw, dataset)
    for warning in doubts(found, residuals):
        console.print(Text(f"Warning: {warning}.", style="yellow"))
    save_calibration(model, found, weights)
    console.print(summary_table(found, residuals))
    console.print(Text(floor_line(len(dataset))))
    print(f'Thresholds ("auto") of {len(found.thresholds)} criteria, for {FALSE_ALARM_RATE:g} false alarms per independent structure: '
          f"race-calc info {model}")
    print(f"The calibration is in {model}; RACECalculator({str(model)!r}) uses it.")
