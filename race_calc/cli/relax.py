"""race-calc relax: a structure, with its cell, or the band between two, under the monitor."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from race_calc.cli.app import command
from race_calc.cli.factory import AsJson, Model
from race_calc.cli.md import HALTED, print_acting

if TYPE_CHECKING:
    from race_calc.md.relaxing import Relaxed

UNFINISHED = 4  # exit status


@command("relax")
def relax(
    model: Model,
    structure: Annotated[Path, typer.Argument(help="file of the structure, in any format of ASE")],
    end: Annotated[Path | None, typer.Argument(help="the other end of a band (NEB): the same atoms in the same order")] = None,
    out: Annotated[Path, typer.Option(help="folder for the results; those of an earlier relaxation in it are replaced")] = ...,  # type: ignore[assignment]
    cell: Annotated[bool, typer.Option("--cell", help="relax the cell, too")] = False,
    fmax: Annotated[float, typer.Option(help="eV/Å: largest force at the end")] = 0.01,
    steps: Annotated[int, typer.Option(min=1, help="at most")] = 500,
    images: Annotated[int, typer.Option(help="of a band, with its ends")] = 7,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    json: AsJson = False,
) -> None:
    """Relax a structure, or find the way between two, until the forces are small or the model no longer knows.

    Writes relaxed.xyz or band.xyz (with uncertainties), monitor.jsonl and flagged.xyz. Exit status 3: the monitor halted it; 4: not
    converged within the steps.
    """
    import ase.io
    from rich.console import Console

    from race_calc.interfaces.calculator import RACECalculator
    from race_calc.md.relaxing import relax as relax_one
    from race_calc.md.relaxing import relax_band
    from race_calc.report.json_text import as_json
    from race_calc.report.told_json import image_facts, run_facts

    if end is not None and cell:
        raise ValueError("the cell of a band stays as it is: leave out --cell")
    console = Console(stderr=True)
    atoms: Any = ase.io.read(structure)
    atoms.info.clear()
    atoms.calc = RACECalculator(model, device=device)
    with console.status("") as status:

        def show(record: Any) -> None:
            status.update(f"step {record.step}  energy {record.energy:.4f} eV")
            print_acting(console, record)

        if end is None:
            found = relax_one(atoms, out, fmax, steps, cell, show)
        else:
            last: Any = ase.io.read(end)
            found = relax_band((atoms, last), images, out, fmax, steps, callback=show)
    if json:
        facts = run_facts(out, found.steps, found.halt) | {"converged": found.converged, "images": image_facts(found.images)}
        print(as_json(facts))
    else:
        print("\n".join(_lines(found)))
    if found.halt is not None or not found.converged:
        raise typer.Exit(UNFINISHED if found.halt is None else HALTED)


def _lines(found: "Relaxed") -> list[str]:
    energies = [float(image.get_potential_energy()) for image in found.images]
    sigmas = [image.info.get("energy_uncertainty") for image in found.images]
    told = [f"{energy:.4f} eV" + ("" if sigma is None else f" ± {sigma:.4f}") for energy, sigma in zip(energies, sigmas)]
    if len(energies) == 1:
        lines = [f"Energy {told[0]} after {found.steps} steps."]
    else:
        top = max(range(len(energies)), key=energies.__getitem__)
        barrier = energies[top] - energies[0]
        lines = [f"Barrier {barrier:.3f} eV at image {top} of {len(energies)}, reaction energy {energies[-1] - energies[0]:.3f} eV."]
        lines += [f"  image {k}: {one}" for k, one in enumerate(told)]
    if found.halt is not None:
        return [*lines, f"The monitor ended it: {found.halt}"]
    return lines if found.converged else [*lines, "Not converged: give more --steps."]
