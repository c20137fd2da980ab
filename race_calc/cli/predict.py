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
    """Predict every structure of a file: energies and forces, or the properties that the model was trained on.

    Structures that cannot be predicted are left out and counted; `structure` is the number in the file, from 0.
    """
    from rich.console import Console
    from rich.progress import Progress

    from race_calc.data.dataset import read_structures
    from race_calc.data.sources import frame_numbers
    from race_calc.report.predictions import WRITERS

    if out.suffix not in WRITERS:
        raise ValueError(f"--out is {out}: give a file that ends in {', '.join(WRITERS)}")
    if out.resolve() == data.resolve():
        raise ValueError(f"--out is the data file {data} itself: give another file")
    out.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    every = read_structures(data)
    structures = {i: every[i] for i in frame_numbers(frames, len(every), str(data))}
    if not structures:
        raise ValueError(f"{data} holds no structures: give a file with at least one")
    rows: list[Any] = []
    told: list[Any] = []
    refused: list[str] = []
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("predicting", total=len(structures))
        for i, found in _predicted(model, structures, device, baseline, state):
            if isinstance(found, ValueError):
                refused.append(f"frame {i}: {found}")
            else:
                rows.append({"structure": i, **found[0]})
                told.append(found[1])
                told[-1].info["structure"] = i
            bar.advance(task)
    if not rows:
        raise ValueError(refused[0])
    WRITERS[out.suffix](out, rows, told)
    print(f"{len(rows)} structures: {', '.join(rows[0])}. They are in {out}")
    if refused:
        print(f"Structures that cannot be predicted, left out: {len(refused)}, the first {refused[0]}")


def _predicted(
    model: Path, structures: "dict[int, Atoms]", device: str, baseline: str | None, state: str | None
) -> "Iterator[tuple[int, tuple[dict[str, Any], Atoms] | ValueError]]":
    """Numbers by name and the structure with what belongs on it, or why there is none, one after the other."""
    from race_calc.report.predictions import of_potential

    if has_properties(model):
        refuse({"--baseline": baseline, "--state": state})
        yield from _of_properties(model, structures, device)
        return
    from race_calc.interfaces.calculator import RACECalculator

    calculator = RACECalculator(model, device, baseline=baseline_from(baseline), state=state_from(state))
    for i, atoms in structures.items():
        try:
            yield i, of_potential(calculator.prediction(atoms), atoms)
        except ValueError as error:
            yield i, error


def _of_properties(model: Path, structures: "dict[int, Atoms]", device: str) -> "Iterator[tuple[int, Any]]":
    """Many molecules together: each alone takes several times as long."""
    from race_calc.interfaces.properties import PropertyModel
    from race_calc.report.predictions import of_properties

    properties, numbers = PropertyModel(model, device), list(structures)
    for start in range(0, len(numbers), TOGETHER):
        some = numbers[start : start + TOGETHER]
        try:
            found = properties.predict([structures[i] for i in some])
        except ValueError:
            found = None  # one of them is to blame
        for k, i in enumerate(some):
            try:
                one = properties.predict([structures[i]]) if found is None else {name: value.of(k) for name, value in found.items()}
                yield i, of_properties(one, structures[i])
            except ValueError as error:
                yield i, error
