"""race-calc calibrate: recalibrate the uncertainties of a model with data that it was not trained on."""

import os
from pathlib import Path
from typing import Annotated

import typer

from race_calc.cli.app import command
from race_calc.cli.factory import BASELINE, HELP, STATE, baseline_from, calculator_from, model_and_data, state_from
from race_calc.cli.properties import calibrate_properties, has_properties, refuse
from race_calc.posterior.shipped import shipped


@command("calibrate")
def calibrate(
    model: Annotated[str, typer.Argument(help="folder of the model; its calibration is written or replaced")],
    data: Annotated[str | None, typer.Argument(help="file with energies and forces of structures that were not trained on")] = None,
    frames: Annotated[str, typer.Option(help="which frames of the file, as in ASE: 450: or ::2")] = ":",
    device: Annotated[str | None, typer.Option(help="cpu (the default) or cuda")] = None,
    calculator: Annotated[str | None, typer.Option(help=HELP)] = None,
    baseline: Annotated[str | None, typer.Option(help=BASELINE)] = None,
    out: Annotated[Path | None, typer.Option(help="with --calculator: the file to write, such as calibration.json")] = None,
    state: Annotated[str | None, typer.Option(help=STATE)] = None,
) -> None:
    """Give the uncertainties an honest scale, and the monitor thresholds with a stated rate of false alarms.

    The data must be of the kind on which the model is to be trusted; RACECalculator then uses the calibration.
    """
    from rich.console import Console
    from rich.progress import Progress
    from rich.text import Text

    from race_calc.data.dataset import read_dataset
    from race_calc.data.label_names import LABELS
    from race_calc.evaluate.calibrate import calibrate, check_held_back, doubts, threshold_doubts
    from race_calc.evaluate.predict import residuals_of
    from race_calc.report.calibration import alarms_line, choice_lines, floor_line, small_set_warnings, summary_table
    from race_calc.report.tables import wide_console

    if calculator is None and model in shipped():
        raise ValueError(f"{model} came with the package and is shared: copy {shipped()[model]}, and calibrate the copy")
    folder, data = model_and_data(model, data, calculator, {"--device": device, "--baseline": baseline, "--state": state})
    if folder is not None and out is not None:
        raise ValueError("--out goes with --calculator: the calibration of a model is kept in its folder")
    if folder is not None and has_properties(folder):
        refuse({"--baseline": baseline, "--state": state})
        calibrate_properties(folder, data, frames, device or "cpu")
        return
    if folder is None:
        path = _file_for(out)
        predictor, known = calculator_from(calculator or ""), None
    else:
        predictor, known, path = _of_folder(folder, device or "cpu", baseline, state)
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{path.parent} cannot be written to: copy the model folder and calibrate the copy")
    dataset = read_dataset(data, frames, getattr(predictor, "label_names", LABELS))
    console = wide_console()
    for warning in check_held_back(known, dataset) + small_set_warnings(len(dataset)):
        console.print(Text(f"Warning: {warning}.", style="yellow"))
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("predicting", total=len(dataset))
        found, raw = calibrate(predictor, dataset, lambda done, _: bar.update(task, completed=done))
    residuals = residuals_of(raw, dataset)
    for warning in doubts(found, residuals) + threshold_doubts(raw.calibrated(found)):
        console.print(Text(f"Warning: {warning}.", style="yellow"))
    _save(folder, path, found, predictor)
    console.print(summary_table(found, residuals))
    console.print(Text(floor_line(len(dataset))))
    for line in [*choice_lines(found), alarms_line(found)]:
        console.print(Text(line))
    if folder is None:
        print(f"The calibration is in {path}; Committee and from_results take it as calibration={str(path)!r}.")
    else:
        call, option = (f", state={state_from(state)!r}", f" --state {state}") if state else ("", "")
        print(f"The calibration is in {folder}; RACECalculator({str(folder)!r}{call}) uses it. All of it: race-calc info {folder}{option}")


def _file_for(out: Path | None) -> Path:
    """Where the calibration of a foreign potential goes. Raises ValueError for no place and for what is no file."""
    from race_calc.data.files import check_regular

    if out is None:
        raise ValueError("with --calculator say where the calibration goes: --out calibration.json")
    if os.path.lexists(out):
        if out.is_dir():
            raise ValueError(f"--out {out} is a folder: give the file to write, such as {out / 'calibration.json'}")
        check_regular(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def _save(folder: Path | None, path: Path, found, predictor) -> None:
    from race_calc.posterior.calibrations import save_calibration
    from race_calc.uncertainty.storage import write_calibration

    if folder is None:
        write_calibration(path, found, getattr(predictor, "model_hash", None))
    else:
        save_calibration(folder, found, predictor.checkpoint.state)


def _of_folder(folder: Path, device: str, baseline: str | None, state: str | None):
    """The predictor without a calibration, the structures that its training used, and the file of its calibration."""
    from race_calc.interfaces.calculator import RACECalculator
    from race_calc.posterior.checkpoint import CALIBRATIONS

    options = {"baseline": baseline_from(baseline), "state": state_from(state)}
    predictor = RACECalculator(folder, device, calibrated=False, **options)  # whatever is there is replaced
    return predictor, predictor.checkpoint.data.get("structures"), folder / CALIBRATIONS[predictor.checkpoint.state]
