"""race-calc select: which structures of a pool are worth a label."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from race_calc.cli.app import command
from race_calc.cli.factory import BASELINE, HELP, STATE, baseline_from, calculator_from, model_and_data, state_from

if TYPE_CHECKING:
    from ase import Atoms

    from race_calc.uncertainty.candidates import Chosen, Pool

PICTURES = (".png", ".pdf", ".svg")


@command("select")
def select(
    model: Annotated[str, typer.Argument(help="a model by name (`race-calc models`), or its folder")],
    pool: Annotated[str | None, typer.Argument(help="structures to choose from, in any format of ASE; labels are not needed")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="how many")] = 20,
    out: Annotated[Path, typer.Option(help="extxyz file of the chosen structures")] = Path("chosen.xyz"),
    method: Annotated[
        str | None,
        typer.Option(help="lcmd (the default of RACE models), batch (of others), bald, farthest-point, random, … (docs/selection.md)"),
    ] = None,
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
    from rich.console import Console
    from rich.progress import Progress

    from race_calc.data.dataset import read_structures
    from race_calc.data.extxyz import as_extxyz
    from race_calc.data.files import write_atomically
    from race_calc.data.sources import frame_numbers
    from race_calc.evaluate.pool import pool_of, usual_method
    from race_calc.interfaces.base import elements_of
    from race_calc.report.selection import selection_table
    from race_calc.report.tables import wide_console
    from race_calc.uncertainty.acquisition import METHODS, check, choose

    if method is not None:
        check(method)
    folder, file = model_and_data(model, pool, calculator, {"--device": device, "--baseline": baseline, "--state": state})
    _check_paths({"--out": out, "--picture": picture}, [file, *([known] if known else [])])
    predictor, seen = _predictor(folder, calculator, device, baseline, state)
    method = method or usual_method(predictor)
    labelled = read_structures(known) if known else []
    structures = read_structures(file)
    asked = {i: structures[i] for i in frame_numbers(frames, len(structures), file)}
    candidates, notes = _candidates(asked, labelled, seen, elements_of(predictor))
    if len(candidates) < n:
        found_so_far = "; ".join([f"{len(candidates)} structures of {file} can be chosen, {n} are asked for", *notes])
        raise ValueError(f"{found_so_far}: ask for fewer, or give more")
    shown = "features" if hasattr(predictor, "structure_features") or not (known or picture) else "distances"
    places = {METHODS[method].place or shown, shown}
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("predicting", total=len(candidates))
        told = pool_of(predictor, [*candidates.values()], labelled, sorted(places), lambda done, _: bar.update(task, completed=done))
    found = choose(told, method, n, seed)
    numbers = [*candidates]
    chosen = [_marked(candidates[numbers[i]], method, float(score), numbers[i]) for i, score in zip(found.indices, found.scores)]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, as_extxyz(chosen))
    console = wide_console()
    for note in notes:
        console.print(note, markup=False)
    console.print(selection_table(told, found, method, numbers))
    print(f"They are in {out}, in the order of the choice; race-calc label {out} --with METHOD labels them")
    if known is None and METHODS[method].place:
        print("The first is the one nearest to the middle of the pool: with --known FILE it is the farthest from what has labels")
    if picture is not None:
        _draw(picture, told, found, method)


def _check_paths(written: "Mapping[str, Path | None]", read: "Sequence[str]") -> None:
    """Raises ValueError where a file that is read, or written already, would be replaced, and for a picture of no known kind."""
    taken = {Path(path).resolve(): path for path in read}
    for option, path in written.items():
        if path is None:
            continue
        if path.resolve() in taken:
            raise ValueError(f"{option} {path} would replace {taken[path.resolve()]}: give another file")
        if option == "--out" and path.exists():
            raise FileExistsError(f"{path} is there already, and may be labelled at this moment: give another --out, or delete it")
        taken[path.resolve()] = str(path)
        if option == "--picture" and path.suffix.lower() not in PICTURES:
            raise ValueError(f"--picture is {path}: give a file that ends in {', '.join(PICTURES)}")


def _draw(picture: Path, told: "Pool", found: "Chosen", method: str) -> None:
    from race_calc.report.selection import selection_figure

    try:
        figure = selection_figure(told, found, method)
    except ValueError as error:
        print(f"No figure: {error}")
        return
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=200)
    print(f"Figure: {picture}")


def _predictor(folder: Path | None, calculator: str | None, device: str | None, baseline: str | None, state: str | None):
    """The potential, and the hashes of the structures that its training used."""
    if folder is None:
        return calculator_from(calculator or ""), frozenset()
    from race_calc.interfaces.calculator import RACECalculator

    made = RACECalculator(folder, device, baseline=baseline_from(baseline), state=state_from(state))
    return made, frozenset(" ".join((made.checkpoint.data.get("structures") or {}).values()).split())


def _candidates(
    structures: "Mapping[int, Atoms]", labelled: "Sequence[Atoms]", seen: frozenset[str], elements: "Sequence[str] | None"
) -> "tuple[dict[int, Atoms], list[str]]":
    """Structures without labels by their number, each once, none that is broken; and what was left out."""
    from race_calc.data.hashes import geometry_hash

    taken, found, again = set(seen) | {geometry_hash(atoms) for atoms in labelled}, {}, 0
    broken: list[str] = []
    for i, atoms in structures.items():
        if (reason := _unknown(atoms, elements) or _broken(atoms)) is not None:
            broken.append(f"frame {i}: {reason}")
        elif (told := geometry_hash(atoms)) in taken:
            again += 1
        else:
            taken.add(told)
            found[i] = atoms
    notes = [f"structures that cannot be predicted, left out: {len(broken)}, the first {broken[0]}"] if broken else []
    return found, notes + ([f"structures with labels, or there twice, left out: {again}"] if again else [])


def _unknown(atoms: "Atoms", elements: "Sequence[str] | None") -> str | None:
    """Which elements the potential does not know, where it says which it does."""
    unknown = sorted(set(atoms.get_chemical_symbols()) - set(elements)) if elements is not None else []
    return f"the potential does not know {', '.join(unknown)}" if unknown else None


def _broken(atoms: "Atoms") -> str | None:
    """Why it cannot be evaluated, or that it has exploded."""
    from race_calc.data.structure import checked
    from race_calc.md.guard import too_close

    try:
        exploded = too_close(checked(atoms))
    except ValueError as error:
        return str(error)
    return None if exploded is None else exploded.message


def _marked(atoms: "Atoms", method: str, score: float, place: int) -> "Atoms":
    """With the reason in its info."""
    made = atoms.copy()
    made.info |= {"selected_by": method, "selected_score": score, "selected_from": place}
    return made
