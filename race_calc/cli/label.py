"""race-calc label: energies and forces of a reference method, and geometries to compute them at."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from race_calc.cli.app import command
from race_calc.cli.factory import given

if TYPE_CHECKING:
    from ase import Atoms

    from race_calc.label.file import Labelled
    from race_calc.label.methods import Method
    from race_calc.label.sampling import Plan


@command("label")
def label(
    file: Annotated[Path, typer.Argument(help="structures, any file that ASE reads")],
    method: Annotated[str | None, typer.Option("--with", metavar="METHOD", help="gfn2-xtb or gfn1-xtb (the extra xtb)")] = None,
    calculator: Annotated[
        str | None, typer.Option(help='in its place: "module:function" that makes an ASE calculator; this runs your code')
    ] = None,
    out: Annotated[Path | None, typer.Option(help="extxyz file to write; default: FILE-METHOD.xyz")] = None,
    sample: Annotated[str | None, typer.Option(metavar="md", help="make geometries first: md, dynamics with the method itself")] = None,
    temperatures: Annotated[str | None, typer.Option(help="of --sample md, in K, as in 600,1000,1500")] = None,
    frames: Annotated[int | None, typer.Option(help="of --sample md, how many in all")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="of --sample md; default: 0")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="default: as many as there are cores")] = None,
    dask: Annotated[str | None, typer.Option(metavar="ADDRESS", help="label on this Dask cluster, such as tcp://host:8786")] = None,
    export: Annotated[Path | None, typer.Option(help="write a folder to label elsewhere: a file for each structure, and a table")] = None,
    back: Annotated[Path | None, typer.Option("--import", help="read results back: the folder of --export, its table filled")] = None,
) -> None:
    """Label structures with energies, forces and, in periodic cells, stress.

    It can be killed at any moment: the same command goes on where it was, and no frame is lost or computed twice. Frames that
    cannot be labelled go to OUT-failed.xyz with the reason.
    """
    from race_calc.data.dataset import read_structures
    from race_calc.label.file import check_new
    from race_calc.label.methods import Method, doubts
    from race_calc.label.parallel import cores

    elsewhere = {"--export": export, "--import": back}
    ways = [name for name, value in {"--with": method, "--calculator": calculator, **elsewhere}.items() if value is not None]
    if len(ways) != 1:
        raise ValueError("give one of --with METHOD, --calculator module:function, --export FOLDER and --import FOLDER")
    if away := given(elsewhere):
        of_sampling = {"--sample": sample, "--temperatures": temperatures, "--frames": frames, "--seed": seed}
        _refuse(away, of_sampling | {"--processes": processes, "--dask": dask, "--out": out if export else None})
        _exported(file, export) if export else _collected(file, back or Path(), out)
        return
    _refuse("--dask", {"--processes": processes if dask else None})
    reference = Method(method or calculator or "")
    target = out or file.with_name(f"{file.stem}-{reference.name.replace(':', '-')}.xyz")
    check_new(target)
    plan = _plan(sample, temperatures, frames, seed)
    structures = read_structures(file)
    for doubt in doubts(reference.name, structures):
        print(f"Warning: {doubt}.")
    found = _labelled(structures, target, reference, plan, processes or cores(), dask)
    print(f"{found.count} structures labelled with {reference.name} ({found.code}): {found.path}")
    if found.failed:
        print(f"{found.failed} could not be labelled, see {found.apart}; the first: {found.reason}")


def _labelled(
    structures: "Sequence[Atoms]", target: Path, reference: "Method", plan: "Plan | None", workers: int, dask: str | None
) -> "Labelled":
    """Geometries by MD where that is the plan, then labels."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from race_calc.label.file import label_frames

    journal = target.with_name(target.name + ".sampling")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn()
    with Progress(*columns) as bar:
        if plan is not None:
            from race_calc.label.sampling import sample

            making = bar.add_task("MD", total=plan.frames, note="")
            structures = sample(structures, plan, reference, journal, workers, lambda done, n: bar.update(making, completed=done))
        task = bar.add_task("labels", total=len(structures), note="")

        def report(done: int, failed: int, of_all: int) -> None:
            bar.update(task, completed=done, note=f"{failed} failed" if failed else "")

        found = label_frames(structures, target, reference, workers, report, dask)
    journal.unlink(missing_ok=True)
    return found


def _refuse(beside: str, options: Mapping[str, object]) -> None:
    """Raises ValueError for options that do not go together."""
    if told := given(options):
        raise ValueError(f"{told} cannot be told beside {beside}: leave it out")


def _exported(file: Path, folder: Path) -> None:
    from race_calc.data.dataset import read_structures
    from race_calc.label.elsewhere import export

    structures = read_structures(file)
    table = export(structures, folder)
    print(f"{len(structures)} structures are in {folder}. Write the file with the result of each into the column result of {table}; then")
    print(f"race-calc label {file} --import {folder}")


def _collected(file: Path, folder: Path, out: Path | None) -> None:
    from race_calc.data.dataset import read_structures
    from race_calc.data.extxyz import as_extxyz
    from race_calc.data.files import write_atomically
    from race_calc.label.elsewhere import collect
    from race_calc.label.file import check_new

    target = out or file.with_name(f"{file.stem}-labelled.xyz")
    check_new(target)
    found = collect(read_structures(file), folder)
    for number, reason in found.failed:
        print(f"Warning: frame {number}: {reason}.")
    if not found.frames:
        raise ValueError(f"no result of {folder} can be used: {len(found.failed)} are refused, {found.missing} are missing")
    write_atomically(target, as_extxyz(found.frames))
    print(f"{len(found.frames)} structures with labels: {target}; {len(found.failed)} refused, {found.missing} without a result yet")


def _plan(sample: str | None, temperatures: str | None, frames: int | None, seed: int | None) -> "Plan | None":
    """Of --sample md; None without it. Raises ValueError for options that are missing, or given without it."""
    from race_calc.label.sampling import Plan

    if sample is None:
        if told := given({"--temperatures": temperatures, "--frames": frames, "--seed": seed}):
            raise ValueError(f"{told} belong to --sample md: add it, or leave them out")
        return None
    if sample.lower() != "md":
        raise ValueError(f"--sample is {sample!r}: md is what there is")
    if temperatures is None or frames is None:
        raise ValueError("--sample md needs --temperatures and --frames, as in --temperatures 600,1000,1500 --frames 400")
    try:
        kelvins = tuple(float(each) for each in temperatures.split(","))
    except ValueError:
        raise ValueError(f"--temperatures is {temperatures!r}: give numbers in K with commas between them, as in 600,1000,1500") from None
    return Plan(kelvins, frames, seed or 0)
