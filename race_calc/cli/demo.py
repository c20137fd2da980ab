"""race-calc demo: MD that is stopped when the model leaves what it knows."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from race_calc.cli.app import command
from race_calc.posterior.shipped import model_folder

MODEL, START = model_folder("3bpa-de"), "start.xyz"
LINE_INTERVAL = 50  # steps from line to line where there is no terminal


@command("demo")
def demo(
    out: Annotated[Path, typer.Option(help="folder for the results")] = Path("demo_output"),
    model: Annotated[Path, typer.Option(parser=model_folder, metavar="MODEL", help="a model by name, or its folder")] = MODEL,
    seed: Annotated[int, typer.Option(min=0, help="of velocities and thermostat")] = 0,
    steps: Annotated[int, typer.Option(min=5, help="at most; a fifth at 300 K, three fifths heating")] = 2500,
) -> None:
    """Run a molecule at 300 K, then heat it until the monitor stops the run (CPU, a few minutes)."""
    import logging
    import time

    import ase.io

    from race_calc.interfaces.calculator import RACECalculator
    from race_calc.md.run import TIMESTEP, demo_plan, run_demo
    from race_calc.report.demo import closing_lines, draw_figure, file_lines

    logging.getLogger("race_calc.monitor").addHandler(logging.NullHandler())  # the closing lines tell of the halt
    began = time.monotonic()
    plan = demo_plan(steps)
    calculator = RACECalculator(model, device="cpu")
    atoms: Any = ase.io.read(model / START if (model / START).is_file() else MODEL / START)  # one Atoms
    atoms.info.clear()
    atoms.calc = calculator
    print(f"3BPA, {len(atoms)} atoms; {calculator.checkpoint.members} members from {model}")
    print(
        f"Langevin MD, steps of {TIMESTEP} fs: {plan.rest} at 300 K, {plan.ramp} heating to 1500 K, "
        f"{plan.hold} at 1500 K; the monitor looks at every step.",
        flush=True,
    )
    outcome = run_demo(atoms, plan, out, seed, live_line(plan))
    draw_figure(outcome, out)
    if sys.stdout.isatty():
        print()
    print("", *closing_lines(outcome), f"({time.monotonic() - began:.0f} s)", "", *file_lines(outcome, out), sep="\n")


def live_line(plan):
    """A callback that shows the run: one line that is rewritten in a terminal, else a line every 50 steps."""
    from race_calc.md.run import target_temperature
    from race_calc.uncertainty.scores import SCORES

    terminal = sys.stdout.isatty()

    def show(record) -> None:
        if not terminal and record.step % LINE_INTERVAL and record.decision.action != "halt":
            return
        text = (
            f"step {record.step:5d}/{plan.steps}  T {record.temperature:5.0f} K (thermostat {target_temperature(plan, record.step):4.0f} K)"
        )
        for row in sorted(SCORES.values(), key=lambda row: row.worst_atom):  # of the structure, then of an atom
            if row.short is not None and row.name in record.scores:
                text += f"  {row.short} {record.scores[row.name]:6.3f} {row.unit}"
        print(f"\r{text}" if terminal else text, end="" if terminal else "\n", flush=True)

    return show
