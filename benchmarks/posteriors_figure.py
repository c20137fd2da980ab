"""The figure of docs/posteriors.md, from the results of `posteriors.py --times`.

python benchmarks/posteriors_figure.py --results runs/paper/correlation-2-seed0/posteriors.json --out docs/figures/posteriors
"""

import json
from pathlib import Path

import numpy as np
from common import arguments
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from race_calc.report.figure import BLUE, ORANGE, VERMILION

SETS = {"id_300K": ("300 K, as trained", BLUE, "o"), "ood_600K": ("600 K", ORANGE, "s"), "ood_1200K": ("1200 K", VERMILION, "D")}

given = arguments(__doc__, results="runs/paper/correlation-2-seed0/posteriors.json", out="docs/figures/posteriors")
results = json.loads(Path(given.results).read_text())
rows = results["rows"]
figure = Figure(figsize=(7.4, 0.34 * len(rows) + 1.2), layout="constrained")
FigureCanvasAgg(figure)
panels = figure.subplots(1, 3, sharey=True, width_ratios=(1.3, 1.1, 0.8))
heights = np.arange(len(rows))[::-1]
for axes, kind, label in ((panels[0], "RMSE F", "force error, RMSE, meV/Å"), (panels[1], "CE F", "calibration error of forces")):
    for name, (legend, colour, marker) in SETS.items():
        pairs = [(rows[row][f"{kind} {name}"][0], y) for row, y in zip(rows, heights) if rows[row][f"{kind} {name}"]]
        axes.plot(*zip(*pairs), marker, color=colour, markersize=4.5, label=legend)
    axes.set_xscale("log")
    axes.set_xlabel(label, fontsize=8)
panels[0].xaxis.set_major_locator(FixedLocator([10, 20, 50, 100, 200, 500]))
panels[0].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
panels[0].xaxis.set_minor_locator(NullLocator())
step = results["step, ms"]
for row, y in zip(rows, heights):
    panels[2].plot(step[row] / step["MSE"], y, "o", color="0.25", markersize=4.5)
    cheap = f"{row}, forces_epistemic=False"
    if cheap in step:
        panels[2].plot(step[cheap] / step["MSE"], y, "o", color="0.25", markerfacecolor="white", markersize=4.5)
panels[2].set_xlabel("time of an MD step\nover one MSE model", fontsize=8)
panels[2].set_xlim(left=0)
panels[2].plot([], [], "o", color="0.25", markerfacecolor="white", markersize=4.5, label="without the forces\nof every member")
panels[0].set_yticks(heights, list(rows), fontsize=8)
for axes in panels:
    axes.grid(axis="both", color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
handles, labels = panels[0].get_legend_handles_labels()
more = panels[2].get_legend_handles_labels()
figure.legend(handles + more[0], labels + more[1], loc="outside upper center", ncols=4, fontsize=8, frameon=False)
Path(given.out).parent.mkdir(parents=True, exist_ok=True)
figure.savefig(f"{given.out}.svg")
figure.savefig(f"{given.out}.png", dpi=200)
