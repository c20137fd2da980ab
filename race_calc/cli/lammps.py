"""race-calc lammps: an input of LAMMPS with a model, its uncertainties and its halt."""

from pathlib import Path
from typing import Annotated

import typer

from race_calc.cli.app import command
from race_calc.cli.factory import Model


@command("lammps")
def lammps(
    model: Model,
    input: Annotated[Path, typer.Option("-in", "--in", help="input with `pair_style race`, see docs/engines.md")],
    dtype: Annotated[str, typer.Option(help="float64 or float32")] = "float64",
) -> None:
    """Run LAMMPS (extra `lammps`) with a model; with mpiexec the ranks share its members."""
    from race_calc.interfaces.lammps import LammpsRace, imported
    from race_calc.interfaces.lammps_input import split_input
    from race_calc.interfaces.served import Served

    parts = split_input(input.read_text(encoding="utf-8"))
    lammps, comm = imported()
    served = Served(model, comm if comm.size > 1 else None, device="cpu", dtype=dtype)
    lmp = lammps.lammps(comm=comm)
    lmp.commands_string(parts.before)
    race = LammpsRace(lmp, served, parts.elements)
    lmp.commands_string(parts.behind)
    race.check()
    if comm.rank == 0 and race.violation is not None:
        print(f"The monitor asked for a halt: {race.violation}")
