"""race-calc ipi-driver: a model as a driver for the sockets of i-PI."""

from pathlib import Path
from typing import Annotated

import typer

from race_calc.cli.app import command
from race_calc.cli.factory import Model

PES = Path(__file__).parents[1] / "interfaces" / "ipi_pes.py"


def _show(wanted: bool) -> None:
    if wanted:
        print(PES)
        raise typer.Exit


@command("ipi-driver")
def ipi_driver(
    model: Model,
    template: Annotated[Path, typer.Argument(help="file with the elements of the atoms, in the order of i-PI")],
    path: Annotated[bool, typer.Option("--path", help="print the PES file for `ffdirect`, and end", is_eager=True, callback=_show)] = False,
    unix: Annotated[str | None, typer.Option(help="address of an `ffsocket` with mode 'unix'")] = None,
    address: Annotated[str, typer.Option(help="host of an `ffsocket` with mode 'inet'")] = "localhost",
    port: Annotated[int, typer.Option(help="its port")] = 31415,
    dtype: Annotated[str, typer.Option(help="float64 or float32")] = "float64",
    halt_file: Annotated[str, typer.Option(help="written when the monitor asks for a halt: EXIT where i-PI runs; '' for no halt")] = "EXIT",
) -> None:
    """Serve energies, forces and uncertainties to a running i-PI (extra `ipi`) until it ends."""
    from race_calc.interfaces.ipi_driver import serve
    from race_calc.interfaces.ipi_pes import RaceDriver

    driver = RaceDriver(model, template, dtype, halt_file=halt_file)
    serve(driver, unix, address, port)
    if driver.violation is not None:
        print(f"The monitor asked for a halt: {driver.violation}")
