"""Force error against CPU minutes of training, ours and MACE's, on one thread: trains ours, or draws the figure.

    python benchmarks/training_curve.py --data FOLDER_WITH_3BPA --json FILE --minutes 15 [--config models/3bpa-de/train.yaml]
    python benchmarks/training_curve.py --json FILE --out docs/figures/training_curve

With --minutes, a model is trained from the configuration with as many epochs as fit (CPU time, by the time of an epoch measured
before), and its errors are added to FILE, where mace_training.py adds MACE's. A case that FILE holds already is left alone.
With --out, the figure shows the best of each code at each budget that FILE holds, chosen without the test frames.
"""

import sys
from pathlib import Path

import torch
import yaml
from common import arguments
from equal_minutes import CHOOSE, TEST, add, best, line, load, ours
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from race_calc.model.hardware import keep_freed_memory
from race_calc.report.figure import BLUE, VERMILION

CODES = {"race_calc": (BLUE, "o"), "MACE": (VERMILION, "D")}
PANELS = {"test 300K": "300 K, as trained", "test 1200K": "1200 K"}


def measured(config: Path, minutes: float, data: Path) -> dict:
    """Epochs, CPU minutes and errors of our model."""
    row = ours(yaml.safe_load(config.read_text()), minutes, data, (*CHOOSE, *TEST))
    return {"code": "race_calc", "budget": minutes, "config": config.parent.name} | row


def plain(value: float, _: int) -> str:
    return f"{value:g}"


def draw(results: dict[str, dict], out: Path) -> None:
    """The figure as svg and png; budgets that were not measured are left out."""
    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    chosen = {code: best(results.values(), code) for code in CODES}
    for axes, (name, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items()):
        for code, rows in chosen.items():
            colour, marker = CODES[code]
            heights = [row[f"{name} force RMSE, meV/Å"] for row in rows.values()]
            axes.plot([row["minutes"] for row in rows.values()], heights, f"{marker}-", color=colour, markersize=4.5, label=code)
        axes.set(xscale="log", yscale="log")
        axes.set_title(title, fontsize=8)
        axes.set_xlabel("CPU minutes of training, one thread", fontsize=8)
        axes.set_ylabel("force error, RMSE, meV/Å", fontsize=8)
        axes.xaxis.set_major_locator(FixedLocator(sorted({budget for rows in chosen.values() for budget in rows})))
        axes.yaxis.set_major_locator(FixedLocator([5, 7, 10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 500]))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(plain))
            axis.set_minor_locator(NullLocator())
        axes.grid(color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(f"{out}.svg")
    figure.savefig(f"{out}.png", dpi=200)


if __name__ == "__main__":
    given = arguments(__doc__, data=".", config="models/3bpa-de/train.yaml", minutes=0.0, out="")
    if not given.json:
        sys.exit("give --json FILE: what is done already is read from it")
    torch.set_num_threads(1)
    keep_freed_memory()
    path, config = Path(given.json), Path(given.config)
    if given.minutes:
        case = f"race_calc, minutes {given.minutes}, {config}"
        if case not in load(path):
            add(path, case, measured(config, given.minutes, Path(given.data)))
        print(line(case, load(path)[case]))
    if given.out:
        draw(load(path), Path(given.out))
