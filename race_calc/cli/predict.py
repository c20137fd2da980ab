"""race-calc predict: what a model says about the structures of a file, with its uncertainties."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from race_calc.cli.app import command
from race_calc.cli.factory import BASELINE, STATE, Model, baseline_from, state_from
from race_calc.cli.properties import has_properties, refuse

if TYPE_CHECKING:
    from ase import Atoms

TOGETHER = 50  # molecules


@command("predict")
def predict(
    model: Model,
    data: Annotated[Path, typer.Argument(help="structures, in any format of ASE; labels are not needed")],
    out: Annotated[Path, typer.Option(help="file to write: .csv, .json or .xyz (extxyz, with forces and their uncertainties)")],
    frames: Annotated[str, typer.Option(help="which frames of the file, as in ASE: 450: or ::2")] = ":",
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    baseline: Annotated[str | None, typer.Option(help=BASELINE)] = None,
    state: Annotated[str | None, typer.Option(help=STATE)] = None,
) -> None:
    """Predict every structure of a file: energies and forces, or the properties that the model was trained on."""
    from rich.console import Console
    from rich.progress import Progress

    from race_calc.data.dataset import read_structures
    from race_calc.report.predictions import WRITERS

    if out.suffix not in WRITERS:
        raise ValueError(f"--out is {out}: give a file that ends in {', '.join(WRITERS)}")
    if out.resolve() == data.resolve():
        raise ValueError(f"--out is the data file {data} itself: give another file")
    out.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    structures = read_structures(data, frames)
    if not structures:
        raise ValueError(f"{data} holds no structures: give a file with at least one")
    rows, told = [], []
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("predicting", total=len(structures))
        for row, frame in _predicted(model, structures, device, baseline, state):
            rows.append(row)
            told.append(frame)
            bar.update(task, completed=len(rows))
    WRITERS[out.suffix](out, rows, told)
    print(f"{len(rows)} structures: {', '.join(rows[0])}. They are in {out}")


def _predicted(
    model: Path, structures: "list[Atoms]", device: str, baseline: str | None, state: str | None
) -> "Iterator[tuple[dict[str, Any], Atoms]]":
    """Numbers by name and the structure with what belongs on it, one after the other. Raises ValueError naming the frame."""
    from race_calc.report.predictions import of_potential

    if has_properties(model):
        refuse({"--baseline": baseline, "--state": state})
        yield from _of_properties(model, structures, device)
        return
    from race_calc.interfaces.calculator import RACECalculator

    calculator = RACECalculator(model, device, baseline=baseline_from(baseline), state=state_from(state))
    for i, atoms in enumerate(structures):
        try:
            yield of_potential(calculator.prediction(atoms), atoms)
        except ValueError as error:
            raise ValueError(f"frame {i}: {error}") from error


def _of_properties(model: Path, structures: "list[Atoms]", device: str) -> "Iterator[tuple[dict[str, Any], Atoms]]":
    """Many molecules together: each alone takes several times as long."""
    from race_calc.interfaces.properties import PropertyModel
    from race_calc.report.predictions import of_properties

    properties = PropertyModel(model, device)
    for start in range(0, len(structures), TOGETHER):
        some = structures[start : start + TOGETHER]
        try:
            found = properties.predict(some)
        except ValueError:
            found = None  # one of them is to blame; those before it are told
        for i, atoms in enumerate(some):
            try:
                one = properties.predict([atoms]) if found is None else {name: value.of(i) for name, value in found.items()}
            except ValueError as error:
                raise ValueError(f"frame {start + i}: {error}") from error
            yield of_properties(one, atoms)
