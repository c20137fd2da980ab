"""race-calc report: one HTML page about a model, to look at and to send."""

from pathlib import Path
from typing import Annotated

import typer

from race_calc.cli.app import command
from race_calc.cli.evaluate import assessed, compared_with_seen, short_names
from race_calc.cli.factory import BASELINE, STATE, Model, baseline_from, state_from
from race_calc.cli.properties import has_properties


@command("report")
def report(
    model: Model,
    data: Annotated[str, typer.Option(metavar="FILE", help="labelled structures that it should know; FILE@FRAMES: some of them")],
    out: Annotated[Path, typer.Option(help="the HTML file to write")],
    ood: Annotated[list[str], typer.Option(metavar="FILE", help="structures that it need not know; may be given several times")] = [],  # noqa: B006
    run: Annotated[Path | None, typer.Option(metavar="LOG", help="log of a monitored run (its logfile)")] = None,
    flagged: Annotated[Path | None, typer.Option(metavar="FILE", help="frames saved in it; default: flagged.xyz beside the log")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    baseline: Annotated[str | None, typer.Option(help=BASELINE)] = None,
    state: Annotated[str | None, typer.Option(help=STATE)] = None,
) -> None:
    """Write one HTML file about a model: what it is for, how wrong it is, whether σ can be trusted. It opens without a network."""
    from race_calc.data.files import write_atomically
    from race_calc.data.label_names import LABELS
    from race_calc.data.sources import read_sources
    from race_calc.interfaces.calculator import RACECalculator
    from race_calc.report.page.content import model_page
    from race_calc.report.page.monitored import NO_RUN, monitored
    from race_calc.report.page.render import html
    from race_calc.uncertainty.predictor import thresholds_of

    if len({data, *ood}) < 1 + len(ood):
        raise ValueError("a data file is given twice: compare different ones")
    if out.is_dir() or out.suffix not in (".html", ".htm"):
        raise ValueError(f"--out is {out}: give a file that ends in .html")
    if flagged is not None and run is None:
        raise ValueError("--flagged are frames of a run: give its log, too (--run)")
    if has_properties(model):
        raise ValueError("the model predicts properties, the page is about potentials: race-calc evaluate shows its errors")
    monitored_run = NO_RUN if run is None else monitored(run, flagged)  # what costs little and may be wrong comes first
    calculator = RACECalculator(model, device, "float64", baseline=baseline_from(baseline), state=state_from(state))
    names = getattr(calculator, "label_names", LABELS)
    sets = {name: read_sources(Path(), name, names) for name in (data, *ood)}
    out.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    compared = compared_with_seen(calculator, calculator.checkpoint, sets, assessed(calculator, sets))
    page = model_page(
        model, calculator.checkpoint, compared, short_names(list(sets)), thresholds_of(calculator), calculator.model_hash, monitored_run
    )
    content = html(page).encode()
    write_atomically(out, content)
    print(f"{out}: {len(content) / 1e6:.1f} MB, opens in any browser, without a network")
