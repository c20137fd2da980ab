"""race-calc relax: a structure, with its cell, or the band between two, under the monitor."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from race_calc.cli.app import command
from race_calc.cli.checks import HALTED, Checks
from race_calc.cli.factory import AsJson, Model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

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
    """Relax a structure, or find the way between two, and tell whether the model knows the result.

    Writes relaxed.xyz or band.xyz (with uncertainties), monitor.jsonl and flagged.xyz. Exit status 3: the monitor flags the result, or
    ended the run (atoms too close); 4: not converged within the steps.
    """
    import ase.io
    from rich.console import Console

    from race_calc.interfaces.calculator import RACECalculator
    from race_calc.md.relaxing import relax as relax_one
    from race_calc.md.relaxing import relax_band
    from race_calc.md.session_files import FLAGGED
    from race_calc.report.json_text import as_json
    from race_calc.report.told_json import image_facts, run_facts

    if end is not None and cell:
        raise ValueError("the cell of a band stays as it is: leave out --cell")
    console = Console(stderr=True)
    atoms: Any = ase.io.read(structure)
    atoms.info.clear()
    atoms.calc = RACECalculator(model, device=device)
    checks = Checks(console)
    with console.status("") as status:

        def show(record: Any) -> None:
            status.update(f"step {record.step}  energy {record.energy:.4f} eV")
            checks.tell(record)

        if end is None:
            found = relax_one(atoms, out, fmax, steps, cell, show)
        else:
            last: Any = ase.io.read(end)
            found = relax_band((atoms, last), images, out, fmax, steps, callback=show)
    between = {} if end is None else _differences(atoms.calc, found.images)
    if json:
        facts = run_facts(out, found.steps, found.halt, found.explanation)
        facts |= {"converged": found.converged, "images": image_facts(found.images), "final_flags": [str(flag) for flag in found.flags]}
        for name, (value, sigma) in between.items():
            facts |= {f"{name}_eV": value, f"{name}_uncertainty_eV": sigma}
        print(as_json(facts))
    else:
        print("\n".join([*_lines(found, between), *checks.lines(out / FLAGGED, found.explanation), *_ending(found, checks.flagged)]))
    if found.flags or not found.converged:
        raise typer.Exit(HALTED if found.flags else UNFINISHED)


def _differences(calculator: Any, images: "Sequence[Atoms]") -> dict[str, tuple[float, float | None]]:
    """Energy less that of the first image, and its σ where there are members, of the last image and, where one between the ends is the
    highest, of that one; eV."""
    from race_calc.observables.difference import difference

    highest = _highest(images)
    found: dict[str, tuple[float, float | None]] = {}
    tops = {"barrier": images[highest]} if 0 < highest < len(images) - 1 else {}
    for name, other in (tops | {"reaction_energy": images[-1]}).items():
        try:
            told = difference(calculator, images[0], other)
            found[name] = told.value, told.std
        except ValueError:  # one member
            found[name] = float(other.get_potential_energy() - images[0].get_potential_energy()), None
    return found


def _eV(value: float, sigma: float | None) -> str:
    return f"{value:.4f} eV" if sigma is None else f"{value:.4f} ± {sigma:.4f} eV"


def _highest(images: "Sequence[Atoms]") -> int:
    energies = [float(image.get_potential_energy()) for image in images]
    return max(range(len(energies)), key=energies.__getitem__)


def _lines(found: "Relaxed", between: dict[str, tuple[float, float | None]]) -> list[str]:
    told = [_eV(float(image.get_potential_energy()), image.info.get("energy_uncertainty")) for image in found.images]
    if len(told) == 1:
        return [f"Energy {told[0]} after {found.steps} steps."]
    top = f"image {_highest(found.images)}"
    inside = f"Barrier {_eV(*between['barrier'])} at {top}" if "barrier" in between else f"No barrier: the highest, {top}, is an end"
    lines = [f"{inside}; reaction energy {_eV(*between['reaction_energy'])}."]
    return [*lines, *(f"  image {k}: {one}" for k, one in enumerate(told))]


def _ending(found: "Relaxed", flagged: int) -> list[str]:
    """Whether it is done, and what the monitor says of the last structure."""
    if found.halt is not None:
        return []
    lines = ["Converged." if found.converged else "Not converged: give more --steps."]
    if found.flags:
        return [*lines, "Do not trust the result: " + "; ".join(map(str, found.flags)) + "."]
    return [*lines, *(["The result is not flagged: the model knows it better than the way there."] if flagged else [])]
