"""race-calc select: which structures of a pool are worth a label."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from race_calc.cli.app import command
from race_calc.cli.factory import BASELINE, HELP, STATE, baseline_from, calculator_from, model_and_data, state_from

if TYPE_CHECKING:
    from ase import Atoms


@command("select")
def select(
    model: Annotated[str, typer.Argument(help="folder of the model")],
    pool: Annotated[str | None, typer.Argument(help="structures to choose from, in any format of ASE; labels are not needed")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="how many")] = 20,
    out: Annotated[Path, typer.Option(help="extxyz file of the chosen structures")] = Path("chosen.xyz"),
    method: Annotated[
        str, typer.Option(help="bald, batch, lcmd, farthest-point, variance-forces, random, … (docs/active_learning.md)")
    ] = "bald",
    known: Annotated[
        str | None, typer.Option(help="file of structures that have labels: they are not chosen again, others far from them are")
    ] = None,
    frames: Annotated[str, typer.Option(help="which frames of the pool, as in ASE: 450: or ::2")] = ":",
    picture: Annotated[Path | None, typer.Option(help="PNG, PDF or SVG file: pool and choice in two dimensions")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of method random")] = 0,
    calculator: Annotated[str | None, typer.Option(help=HELP)] = None,
    device: Annotated[str | None, typer.Option(help="cpu (the default) or cuda")] = None,
    baseline: Annotated[str | None, typer.Option(help=BASELINE)] = None,
    state: Annotated[str | None, typer.Option(help=STATE)] = None,
) -> None:
    """Choose the structures whose labels tell the model most."""
    from ase.io import write
    from rich.console import Console
    from rich.progress import Progress

    from race_calc.data.dataset import read_structures
    from race_calc.evaluate.pool import pool_of
    from race_calc.report.selection import selection_figure, selection_table
    from race_calc.report.tables import wide_console
    from race_calc.uncertainty.acquisition import check, choose

    check(method)
    folder, file = model_and_data(model, pool, calculator, {"--device": device, "--baseline": baseline, "--state": state})
    for path in (out, picture):
        if path is not None and path.resolve() == Path(file).resolve():
            raise ValueError(f"{path} is the pool itself: give another file")
    predictor, seen = _predictor(folder, calculator, device, baseline, state)
    labelled = read_structures(known) if known else []
    structures = dict(enumerate(read_structures(file)))
    structures = {i: structures[i] for i in _numbers(frames, len(structures), file)}
    structures, broken = _sound(structures)
    places, candidates = _new(structures, labelled, seen)
    if len(candidates) < n:
        raise ValueError(f"{file} has {len(candidates)} structures that have no labels yet, {n} are asked for: ask for fewer, or give more")
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("predicting", total=len(candidates))
        told = pool_of(predictor, candidates, labelled, lambda done, _: bar.update(task, completed=done))
    found = choose(told, method, n, seed)
    chosen = [_marked(candidates[i], method, float(score), places[i]) for i, score in zip(found.indices, found.scores)]
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, chosen, format="extxyz")
    console = wide_console()
    if broken:
        console.print(f"{len(broken)} structures are broken and left out; the first, frame {broken[0]}", markup=False)
    if len(candidates) < len(structures):
        console.print(f"{len(structures) - len(candidates)} structures of the pool have labels already, or occur twice: not chosen from.")
    console.print(selection_table(told, found, method, places))
    print(f"They are in {out}, the most telling first; label them with race-calc label {out}")
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)
        selection_figure(told, found, method).savefig(picture, dpi=200)
        print(f"Figure: {picture}")


def _predictor(folder: Path | None, calculator: str | None, device: str | None, baseline: str | None, state: str | None):
    """The potential, and the hashes of the structures that its training used."""
    if folder is None:
        return calculator_from(calculator or ""), frozenset()
    from race_calc.interfaces.calculator import RACECalculator

    made = RACECalculator(folder, device, baseline=baseline_from(baseline), state=state_from(state))
    return made, frozenset(" ".join((made.checkpoint.data.get("structures") or {}).values()).split())


def _numbers(frames: str, count: int, file: str) -> list[int]:
    """Which frames of the file. Raises ValueError for what names none."""
    from ase.io.formats import string2index

    try:
        chosen = string2index(frames)
        return list(range(count)[chosen]) if isinstance(chosen, slice) else [range(count)[int(chosen)]]
    except (ValueError, IndexError):
        raise ValueError(
            f"--frames {frames!r} names no frames of {file}, which has {count}: write a number or a slice, such as ::2"
        ) from None


def _sound(structures: "Mapping[int, Atoms]") -> "tuple[dict[int, Atoms], list[str]]":
    """Those that have not exploded and can be evaluated, and of the others number and reason."""
    from race_calc.data.structure import checked
    from race_calc.md.guard import too_close

    found, broken = {}, []
    for i, atoms in structures.items():
        try:
            exploded = too_close(checked(atoms))
        except ValueError as error:
            broken.append(f"{i}: {error}")
        else:
            if exploded is None:
                found[i] = atoms
            else:
                broken.append(f"{i}: {exploded.message}")
    return found, broken


def _new(structures: "Mapping[int, Atoms]", labelled: "Sequence[Atoms]", seen: frozenset[str]) -> "tuple[list[int], list[Atoms]]":
    """Numbers and structures without those that have labels or stand before."""
    from race_calc.data.hashes import geometry_hash

    taken = set(seen) | {geometry_hash(atoms) for atoms in labelled}
    places, found = [], []
    for i, atoms in structures.items():
        if (told := geometry_hash(atoms)) not in taken:
            taken.add(told)
            places.append(i)
            found.append(atoms)
    return places, found


def _marked(atoms: "Atoms", method: str, score: float, place: int) -> "Atoms":
    """With the reason in its info."""
    from race_calc.data.extxyz import storable

    made = atoms.copy()
    made.info = storable(atoms.info | {"selected_by": method, "selected_score": score, "selected_from": place})
    return made
