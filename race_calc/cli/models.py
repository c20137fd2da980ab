"""race-calc models: what comes with the package."""

import json
from typing import Annotated

import typer

from race_calc.cli.app import command


@command("models")
def models(as_json: Annotated[bool, typer.Option("--json", help="for machines: name, folder, title, elements, MB")] = False) -> None:
    """List the models that came with the package; their names stand for their folders everywhere.

    The files of each are checked against its manifest.
    """
    from race_calc.report.shipped import rows

    found = rows()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    from rich.table import Table

    from race_calc.report.tables import wide_console

    table = Table("name", "elements", "what it is", "MB", box=None, padding=(0, 2, 0, 0))
    for row in found:
        table.add_row(row["name"], " ".join(row["elements"]), row["title"], f"{row['megabytes']:.1f}")
    console = wide_console()
    console.print(table)
    console.print(f"\nFolder: {found[0]['folder'].rsplit('/', 1)[0] if found else 'none'}; `race-calc info NAME` tells more.")
