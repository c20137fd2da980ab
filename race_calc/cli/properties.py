"""What `race-calc evaluate` and `calibrate` do with a model of molecular properties."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from race_calc.data.dataset import Dataset
    from race_calc.interfaces.properties import PropertyModel
    from race_calc.uncertainty.prediction import Property


def has_properties(folder: Path) -> bool:
    from race_calc.posterior.checkpoint import load_checkpoint

    return bool(load_checkpoint(folder, calibration=False).model.plan.config.targets)


def refuse(options: dict[str, object]) -> None:
    """Raises ValueError for what only potentials take."""
    given = [name for name, value in options.items() if value]
    if given:
        raise ValueError(f"the model predicts properties: leave out {', '.join(given)}")


def evaluate_properties(folder: Path, data: list[str], frames: str, device: str, to: Path | None) -> None:
    """A table for each file; the numbers of all to the JSON file `to`."""
    from race_calc.data.properties import of_property
    from race_calc.evaluate.overlap import overlap
    from race_calc.evaluate.properties import property_errors
    from race_calc.interfaces.properties import PropertyModel
    from race_calc.report.properties import errors_table
    from race_calc.report.tables import wide_console

    if to is not None:
        to.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    model, numbers = PropertyModel(folder, device), {}
    for i, name in enumerate(data):
        dataset = _read(name, frames if i == 0 else ":", model)
        seen = overlap(dataset, model.structures, model.calibrations[0]).seen
        if seen:
            print(f"Warning: {Path(name).name}: the model has seen {len(seen)} of {len(dataset)} structures; on new ones it errs more.")
        found = _predicted(model, dataset)
        errors = {target: property_errors(value, of_property(dataset, target).energy) for target, value in found.items()}
        wide_console().print(errors_table(f"{Path(name).name}, {len(dataset)} structures", errors, model.calibrated))
        numbers[name] = {target: None if one is None else asdict(one) for target, one in errors.items()}
    if to is not None:
        to.write_text(json.dumps({"model": str(folder), "calibrated": model.calibrated, "data": numbers}, indent=2) + "\n")
        print(f"All numbers are in {to}")


def calibrate_properties(folder: Path, data: str, frames: str, device: str) -> None:
    """Write a calibration for each property, and show coverage before and after."""
    from rich.text import Text

    from race_calc.data.properties import of_property
    from race_calc.evaluate.calibrate import check_held_back
    from race_calc.evaluate.properties import calibrated_property, property_errors
    from race_calc.interfaces.properties import PropertyModel
    from race_calc.posterior.calibrations import save_calibration
    from race_calc.report.properties import errors_table
    from race_calc.report.tables import wide_console

    raw, console = PropertyModel(folder, device, calibrated=False), wide_console()
    dataset = _read(data, frames, raw)
    for warning in check_held_back(raw.structures, dataset):
        console.print(Text(f"Warning: {warning}.", style="yellow"))
    found = _predicted(raw, dataset)
    calibrations = [calibrated_property(value, dataset, name, raw.members) for name, value in found.items()]
    for k, calibration in enumerate(calibrations):
        save_calibration(folder, calibration, k)
    after = _predicted(PropertyModel(folder, device), dataset)
    for title, told in (("Before", found), ("After, on the same structures", after)):
        errors = {name: property_errors(value, of_property(dataset, name).energy) for name, value in told.items()}
        console.print(errors_table(title, errors, told is after))
    print(f"The calibrations are in {folder}; PropertyModel({str(folder)!r}) uses them.")


def _read(data: str, frames: str, model: "PropertyModel") -> "Dataset":
    from race_calc.data.properties import read_properties

    return read_properties(data, frames, tuple(model.targets))


def _predicted(model: "PropertyModel", dataset: "Dataset") -> "dict[str, Property]":
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        return model.predict(bar.track(dataset.structures, description="predicting"))
