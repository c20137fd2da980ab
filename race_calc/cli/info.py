"""race-calc info: what a model folder holds."""

from typing import Annotated

import typer

from race_calc.cli.app import command
from race_calc.cli.factory import STATE, AsJson, Model, state_from


@command("info")
def info(model: Model, state: Annotated[str | None, typer.Option(help=STATE)] = None, json: AsJson = False) -> None:
    """Show a model: species, architecture, posterior, calibration, thresholds, training and data."""
    from rich.table import Table
    from rich.text import Text

    from race_calc.posterior.checkpoint import load_checkpoint
    from race_calc.report.json_text import as_json
    from race_calc.report.model_folder import sections
    from race_calc.report.tables import wide_console
    from race_calc.report.told_json import model_facts

    checkpoint = load_checkpoint(model, state=state_from(state))
    if json:
        print(as_json(model_facts(model, checkpoint)))
        return
    console = wide_console()
    for title, lines in sections(model, checkpoint).items():
        console.print(Text(title, style="bold"))
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=22, no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in lines.items():
            table.add_row(Text(f"  {name}"), Text(value))
        console.print(table)
