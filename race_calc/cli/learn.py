"""race-calc learn: MD that gets labels and learns where the model no longer knows."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from race_calc.cli.app import command

if TYPE_CHECKING:
    from race_calc.learning.config import LearnConfig
    from race_calc.learning.on_the_fly import OnTheFly

FIGURE = "learning.png"


@command("learn")
def learn(
    config: Annotated[Path, typer.Argument(help="YAML configuration, see docs/learning.md")],
    out: Annotated[Path, typer.Option(help="folder of the run and of the models that it learns")],
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Explore by MD; where the model no longer knows go back, buy labels, learn, go on.

    The run can be killed at any moment: the same command goes on where it was.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from race_calc.learning.config import load_learning
    from race_calc.report.learning import rounds_table
    from race_calc.report.tables import wide_console

    settings = load_learning(config)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks = [bar.add_task(f"replica {k}", total=settings.exploration.steps) for k in range(settings.exploration.replicas)]

        def report(event: str, content: dict[str, Any]) -> None:
            if event == "turn":
                bar.update(tasks[content["replica"]], completed=content["steps"])
            elif event == "halt":
                bar.console.print(f"replica {content['replica']}, {content['reason']}; back to step {content['back_to']}", markup=False)
            elif event == "round":
                bar.console.print(f"round {content['number']}: {content['labels']} labels, {_errors(content)}", markup=False)

        run = _made(settings, config.parent, out, device, report)
        done = run.run(settings.exploration.steps, settings.exploration.quiet_steps)
    wide_console().print(rounds_table(run.history))
    print(f"The end: {done.reason}. {done.labels} labels, {done.rounds} rounds.")
    _draw(run, settings, out)
    if done.folder is None:
        print("Nothing was learned: the model is as it was.")
    else:
        print(f"The model is in {done.folder}: race_calc.RACECalculator({str(done.folder)!r})")


def _made(settings: "LearnConfig", folder: Path, out: Path, device: str, report: Any) -> "OnTheFly":
    from race_calc.data.dataset import read_structures
    from race_calc.learning.budget import Budget
    from race_calc.learning.continual import RACELearner
    from race_calc.learning.exploration import replicas
    from race_calc.learning.on_the_fly import OnTheFly
    from race_calc.model.hardware import keep_freed_memory

    keep_freed_memory()
    budget = settings.budget
    data = None if settings.data is None else folder / settings.data
    out.mkdir(parents=True, exist_ok=True)
    return OnTheFly(
        replicas(read_structures(folder / settings.structures), settings.exploration),
        settings.reference,
        RACELearner(folder / settings.model, data, settings.epochs, device),
        out,
        budget=Budget(budget.labels, float("inf") if budget.minutes is None else budget.minutes, budget.rounds),
        labels_a_round=settings.labels_a_round,
        processes=settings.processes,
        report=report,
    )


def _errors(content: dict[str, Any]) -> str:
    from race_calc.report.tables import milli

    if "after" not in content:
        return "nothing new to label"
    kept = "" if content["kept"] else ", kept out"
    return f"force RMSE on what is held back {milli(content['before'])} -> {milli(content['after'])} meV/Å{kept}"


def _draw(run: "OnTheFly", settings: "LearnConfig", out: Path) -> None:
    from race_calc.md.log import read_log
    from race_calc.report.learning import learning_figure

    files = (out / f"monitor-{k}.jsonl" for k in range(settings.exploration.replicas))
    try:
        logs = [read_log(file) for file in files if file.exists()]
        learning_figure(logs, run.history, settings.exploration.timestep).savefig(out / FIGURE, dpi=200)
    except ValueError as error:
        print(f"No figure: {error}")
        return
    print(f"Figure: {out / FIGURE}")
