"""race-calc md: molecular dynamics under the monitor."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from race_calc.cli.app import command
from race_calc.cli.checks import HALTED, Checks
from race_calc.cli.factory import AsJson, Model

if TYPE_CHECKING:
    from race_calc.md.record import MonitorRecord


@command("md")
def md(
    model: Model,
    structure: Annotated[Path, typer.Argument(help="file of the structure, in any format of ASE; its momenta where it has any")],
    out: Annotated[Path, typer.Option(help="folder of the run; the same command goes on with what is there")],
    ensemble: Annotated[str, typer.Option(help="nve, nvt (Langevin) or npt (isotropic Martyna-Tobias-Klein)")] = "nvt",
    temperature: Annotated[str, typer.Option(metavar="K", help="300, or 300:1000 for a ramp")] = "300",
    steps: Annotated[int, typer.Option(min=1, help="in all")] = 1000,
    timestep: Annotated[float, typer.Option(help="fs")] = 0.5,
    pressure: Annotated[float, typer.Option(help="GPa, of npt")] = 0.0,
    friction: Annotated[float, typer.Option(help="1/fs, of nvt")] = 0.01,
    every: Annotated[int, typer.Option(min=1, help="steps from one frame of the trajectory to the next")] = 10,
    interval: Annotated[int, typer.Option(min=1, help="steps from one check of the monitor to the next")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="of momenta and thermostat")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float64 or float32")] = "float64",
    json: AsJson = False,
) -> None:
    """Run MD until it is done or the model no longer knows.

    Writes trajectory.xyz (frames with uncertainties), monitor.jsonl, flagged.xyz and state.json. A run that was killed goes on with the
    same command. Exit status 3: the monitor halted the run.
    """
    import ase.io
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from race_calc.interfaces.calculator import RACECalculator
    from race_calc.md.session import Session, run_session
    from race_calc.md.session_files import FLAGGED
    from race_calc.report.json_text import as_json
    from race_calc.report.told_json import run_facts

    first, last = _temperatures(temperature)
    session = Session(ensemble, first, last, steps, timestep, friction, pressure, every, interval, seed)
    atoms: Any = ase.io.read(structure)
    atoms.info.clear()
    atoms.calc = RACECalculator(model, device=device, dtype=dtype)
    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task, checks = bar.add_task("", total=steps), Checks(bar.console)

        def show(record: "MonitorRecord") -> None:
            bar.update(task, completed=record.step, description=_line(record))
            checks.tell(record)

        ended = run_session(atoms, session, out, show)
        bar.update(task, completed=ended.steps)  # also of a run that had ended before
    made = (
        f"{ended.steps} of {steps} steps in {out}." if ended.steps <= steps else f"{ended.steps} steps in {out}, --steps asks for {steps}."
    )
    if json:
        print(as_json(run_facts(out, ended.steps, ended.halt, ended.explanation)))
    else:
        print("\n".join([made, *checks.lines(out / FLAGGED, ended.explanation)]))
    if ended.halt is not None:
        raise typer.Exit(HALTED)


def _temperatures(text: str) -> tuple[float, float]:
    try:
        first, _, last = text.partition(":")
        return float(first), float(last or first)
    except ValueError:
        raise ValueError(f"--temperature {text}: give 300, or 300:1000 for a ramp") from None


def _line(record: "MonitorRecord") -> str:
    from race_calc.uncertainty.scores import SCORES

    scores = [f"{row.short} {row.text(record.scores[row.name])}" for row in SCORES.values() if row.short and row.name in record.scores]
    return "  ".join([f"T {record.temperature:.0f} K", *scores])
