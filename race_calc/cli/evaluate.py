"""race-calc evaluate: errors, likelihood, coverage and out-of-distribution detection on labelled data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from race_calc.cli.app import command
from race_calc.cli.factory import BASELINE, HELP, STATE, baseline_from, calculator_from, model_and_data, state_from
from race_calc.cli.properties import evaluate_properties, has_properties, refuse

if TYPE_CHECKING:
    from race_calc.data.dataset import Dataset
    from race_calc.evaluate.assessment import Assessment, Comparison
    from race_calc.uncertainty.predictor import Predictor


@command("evaluate")
def evaluate(
    model: Annotated[str, typer.Argument(help="a model by name (`race-calc models`), or its folder")],
    data: Annotated[str | None, typer.Argument(help="file with energies and forces of structures that the model should know")] = None,
    ood: Annotated[list[str], typer.Option(metavar="FILE", help="structures that it need not know; may be given several times")] = [],  # noqa: B006
    figures: Annotated[Path | None, typer.Option(help="also draw errors, calibration and intervals into this folder")] = None,
    json: Annotated[Path | None, typer.Option(help="also write all numbers to this file")] = None,
    frames: Annotated[str, typer.Option(help="which frames of DATA, as in ASE: 450: or ::2")] = ":",
    select: Annotated[
        str | None, typer.Option(metavar="KEY=VALUE", help="only frames whose info has this, as in T_source=train_mixedT")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu (the default) or cuda")] = None,
    dtype: Annotated[str | None, typer.Option(help="float64 (the default) or float32")] = None,
    calculator: Annotated[str | None, typer.Option(help=HELP)] = None,
    baseline: Annotated[str | None, typer.Option(help=BASELINE)] = None,
    state: Annotated[str | None, typer.Option(help=STATE)] = None,
) -> None:
    """Measure a model on labelled data: errors, how far its uncertainties can be trusted, and how well they warn.

    Where the model is calibrated, uncertainties are shown before and after. Structures that it was trained or calibrated with are
    counted, and results are also given without them.
    """
    from race_calc.data.dataset import read_dataset
    from race_calc.data.label_names import LABELS
    from race_calc.report.evaluation_doubts import doubted_name, judged_name
    from race_calc.report.evaluation_json import write_json
    from race_calc.uncertainty.predictor import calibration_of

    folder, data = model_and_data(model, data, calculator, {"--device": device, "--dtype": dtype, "--baseline": baseline, "--state": state})
    if folder is not None and has_properties(folder):
        refuse({"--figures": figures, "--select": select, "--dtype": dtype, "--baseline": baseline, "--state": state})
        evaluate_properties(folder, [data, *ood], frames, device or "cpu", json)
        return
    device, dtype = device or "cpu", dtype or "float64"
    for place in (figures, None if json is None else json.parent):
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    if len({data, *ood}) < 1 + len(ood):
        raise ValueError("a data file is given twice: compare different ones")
    predictor = calculator_from(calculator or "") if folder is None else _of_folder(folder, device, dtype, baseline, state)
    if figures is not None and folder is not None and not any("uncertainty" in name for name in predictor.implemented_properties):
        raise ValueError("this model gives no uncertainty: there is nothing to draw, leave out --figures")
    names = getattr(predictor, "label_names", LABELS)
    sets = {name: read_dataset(name, frames if name == data else ":", names) for name in (data, *ood)}
    if select is not None:
        sets = {name: select_frames(dataset, select, name) for name, dataset in sets.items()}
    found = assessed(predictor, sets)
    if figures is not None and not found[data].before:
        raise ValueError("this potential gives no uncertainty: there is nothing to draw, leave out --figures")
    compared = compared_with_seen(predictor, None if folder is None else predictor.checkpoint, sets, found)
    show(compared, select)
    if json is not None:
        known_dtype = None if folder is None else dtype
        write_json(json, compared, {"model": calculator or model, "dtype": known_dtype, "frames": frames, "select": select})
        print(f"All numbers are in {json}")
    if figures is not None:
        from race_calc.report.evaluation_figures import draw

        short = zip(short_names(list(found)), compared.judged.items())
        named = {doubted_name(judged_name(name, compared, file), one): one for name, (file, one) in short}
        for path in draw(figures, named, calibration_of(predictor)):
            print(f"Figure: {path}")


def _of_folder(folder: Path, device: str, dtype: str, baseline: str | None, state: str | None):
    from race_calc.interfaces.calculator import RACECalculator

    return RACECalculator(folder, device, dtype, baseline=baseline_from(baseline), state=state_from(state))


def assessed(predictor: "Predictor", sets: "dict[str, Dataset]") -> "dict[str, Assessment]":
    """Every data set, with the predictor's calibration; a bar shows how far it is.

    Raises ValueError, naming the file, where the predictor does.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import MofNCompleteColumn, Progress

    from race_calc.evaluate.assessment import assess
    from race_calc.uncertainty.predictor import calibration_of

    found = {}
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        for name, dataset in sets.items():
            task = bar.add_task(escape(Path(name).name), total=len(dataset))

            def show_progress(done: int, total: int) -> None:
                bar.update(task, completed=done)

            try:
                found[name] = assess(predictor, calibration_of(predictor), dataset, show_progress)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
    return found


def compared_with_seen(predictor, checkpoint, sets: "dict[str, Dataset]", found: "dict[str, Assessment]") -> "Comparison":
    """The comparison, with what the predictor has seen before and without it; `checkpoint`: None for a foreign potential."""
    from race_calc.evaluate.assessment import compare
    from race_calc.evaluate.overlap import overlap
    from race_calc.uncertainty.predictor import calibration_of

    first = next(iter(sets.values())).structures
    plain = checkpoint is not None and not checkpoint.baseline  # else references are those of what the network adds
    references = [checkpoint.references.reference_energy(atoms.numbers) if plain else 0.0 for atoms in first]
    known = None if checkpoint is None else checkpoint.data.get("structures")
    overlaps = {name: overlap(dataset, known, calibration_of(predictor)) for name, dataset in sets.items()}
    parts = {name: sets[name].subset(one.unseen) for name, one in overlaps.items() if one.seen and one.unseen}
    return compare(predictor, sets, found, references, overlaps, assessed(predictor, parts))


def show(compared: "Comparison", select: str | None) -> None:
    """What it says in short, all tables, and the unified score; `select`: which frames they are of."""
    import math

    from rich.text import Text

    from race_calc.report.evaluation import print_tables, score_line
    from race_calc.report.evaluation_doubts import judged_name, level_lines, overlap_lines, with_unseen
    from race_calc.report.page.judged import judged_sets
    from race_calc.report.page.words import in_short
    from race_calc.report.tables import wide_console

    console, calibration = wide_console(), compared.calibration
    short = dict(zip(compared.found, short_names(list(compared.found))))
    found, unseen = ({short[file]: one for file, one in part.items()} for part in (compared.found, compared.unseen))
    overlaps = {short[file]: one for file, one in compared.overlaps.items()}
    names = {file: judged_name(name, compared, file) for file, name in short.items()}
    for line in [*overlap_lines(overlaps), *level_lines(found)]:
        console.print(Text(f"Warning: {line}.", style="yellow"))
    for answer in in_short(judged_sets(compared, short.values()), compared):
        console.print(Text(answer.question, style="bold"), Text(answer.text))
    print_tables(
        console,
        with_unseen(found, unseen),
        next(iter(names.values())),
        {names[file]: one for file, one in compared.detected.items()},
        calibration is not None,
        math.inf if calibration is None else calibration.frames,
        select,
    )
    if compared.terms is not None:
        console.print(Text(score_line(compared.terms, compared.criterion)))


def select_frames(dataset: "Dataset", condition: str, source: str) -> "Dataset":
    """The frames whose `atoms.info[KEY]` equals VALUE, for the condition "KEY=VALUE"; numbers compare as numbers.

    Raises ValueError for a condition of another form, a key that no frame has and a value that none has.
    """
    key, equals, value = condition.partition("=")
    if not key or not equals:
        raise ValueError(f"--select is {condition!r}: write KEY=VALUE, for example T_source=train_mixedT")
    infos = [atoms.info for atoms in dataset.structures]
    if not any(key in info for info in infos):
        keys = sorted({str(name) for info in infos for name in info})
        raise ValueError(f"no frame of {source} has the info key {key!r}: it has {', '.join(keys) or 'none'}")
    chosen = [i for i, info in enumerate(infos) if key in info and _equal(info[key], value)]
    if not chosen:
        values = sorted({str(info[key]) for info in infos if key in info})
        shown = ", ".join(values[:8]) + (", ..." if len(values) > 8 else "")
        raise ValueError(f"no frame of {source} has {key} equal to {value!r}: its values are {shown}")
    return dataset.subset(chosen)


def short_names(paths: list[str]) -> list[str]:
    """File names without folders, or the paths as they are where two names would be the same."""
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else list(paths)


def _equal(found, value: str) -> bool:
    if str(found) == value:
        return True
    try:
        return float(found) == float(value)
    except (TypeError, ValueError):
        return False
