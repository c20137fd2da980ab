"""Tables and numbers in the terminal, the same in all commands."""

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from race_calc.uncertainty.metrics import LEVELS


def plain_table(title: str, headers: list[str], wrap: bool = False) -> Table:
    """A table; long names fold in the first column or, with `wrap`, in the headers of the others."""
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for i, header in enumerate(headers):
        table.add_column(Text(header), justify="right" if i else "left", overflow="fold", no_wrap=(i == 0) == wrap)
    return table


def row(table: Table, *cells: str) -> None:
    """Add a row; brackets in names are no markup."""
    table.add_row(*[Text(cell) for cell in cells])


def milli(value: float | None) -> str:
    """In thousandths, as meV for eV."""
    return "–" if value is None else plain(1e3 * value)


def plain(value: float | None) -> str:
    """Three digits or so."""
    if value is None:
        return "–"
    if abs(value) >= 1e6:
        return f"{value:.1e}"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"


def percent(share: float | None) -> str:
    """A share as a whole percentage."""
    return "–" if share is None else f"{100 * share:.0f}"


def percents(coverage: Mapping[float, float] | None) -> str:
    """Coverage at LEVELS as whole percentages."""
    return "–" if coverage is None else "/".join(percent(coverage[level]) for level in LEVELS)


def wide_console() -> Console:
    """The terminal at its own width; files and pipes get 100 columns."""
    console = Console()
    return console if console.is_terminal else Console(width=100)
