"""A training for its reader: learning curves. NumPy and matplotlib only."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from race_calc.report.figure import BLUE, ORANGE, VERMILION

LOG, CURVES = "training_log.jsonl", "learning_curves.png"
STRESS = "stress_rmse_eV_per_A3"
ERRORS = (("force_rmse_eV_per_A", "force RMSE, meV/Å"), ("energy_rmse_eV", "energy RMSE, meV"), (STRESS, "stress RMSE, meV/Å³"))
Records = Sequence[dict[str, Any]]  # of each epoch


def read_records(folder: Path) -> Records:
    """The epochs of a training, running or finished. Raises ValueError for a folder without one."""
    path = folder / LOG
    if not path.is_file():
        raise ValueError(f"{folder} has no {LOG}: give the folder of a training")
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:  # the last line of a running one
            continue
    if not found:
        raise ValueError(f"{path} has no epoch yet: wait for the first one")
    return found


def learning_curves(records: Records) -> Figure:
    """Errors of the members and of their mean on the validation structures, loss and validation score, rate and skipped steps, by epoch; of
    stresses where they are learned."""
    stress = any(record.get(STRESS) is not None for record in records)
    figure = Figure(figsize=(10.2 if stress else 7.2, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 3 if stress else 2, sharex=True)
    epochs = np.array([record["epoch"] for record in records])
    for ax, (name, label) in zip(panels[0], ERRORS):
        ax.plot(epochs, 1e3 * _values(records, name), lw=0.6, color=BLUE, alpha=0.4)
        ax.plot(epochs, 1e3 * _values(records, f"mean_{name}"), lw=1.4, color=VERMILION)
        ax.set_yscale("log")
        ax.set_ylabel(label, fontsize=8)
    panels[0, 0].set_title("validation: each member, and their mean", fontsize=8, loc="left", color=VERMILION)
    loss, score = (_values(records, name) for name in ("train_loss", "validation_score"))
    panels[1, 0].plot(epochs, loss, lw=0.6, color=ORANGE, alpha=0.6)
    panels[1, 0].plot(epochs, score, lw=0.6, color=BLUE, alpha=0.6)
    panels[1, 0].set_ylabel("per structure", fontsize=8)
    panels[1, 0].set_title("training loss (orange), validation score (blue)", fontsize=8, loc="left")
    late = np.concatenate([loss[len(loss) // 4 :].ravel(), score[len(score) // 4 :].ravel()])  # the first epochs are off any scale
    low, high = np.nanmin(late), np.nanmax(late)
    panels[1, 0].set_ylim(low - 0.05 * (high - low) - 1e-9, high + 0.1 * (high - low) + 1e-9)
    panels[1, 1].plot(epochs, _values(records, "learning_rate"), lw=1.2, color=BLUE)
    panels[1, 1].set_yscale("log")
    panels[1, 1].set_ylabel("learning rate", fontsize=8)
    skipped = _values(records, "skipped_steps").reshape(len(records), -1).max(1)
    panels[1, 1].set_title(f"skipped steps: {int(skipped.max())} at most of one member", fontsize=8, loc="left")
    for ax in panels[1, 2:]:
        ax.set_axis_off()
    for ax in panels.flat:
        ax.tick_params(labelsize=7, which="both")
        if ax.get_yscale() == "log":
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            low, high = ax.get_ylim()
            ax.yaxis.set_minor_formatter(NullFormatter() if high > 30 * low else FuncFormatter(lambda value, _: f"{value:g}"))
        ax.spines[["top", "right"]].set_visible(False)
    for ax in [*panels[1, :2], *panels[0, 2:]]:
        ax.set_xlabel("epoch", fontsize=8)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.tick_params(labelbottom=True)
    return figure


def _values(records: Records, name: str) -> np.ndarray:
    """(epochs, …); NaN where a record has none."""
    there = [record.get(name) for record in records]
    like = np.full_like(np.asarray(next((one for one in there if one is not None), np.nan), dtype=float), np.nan)
    return np.array([like if one is None else one for one in there], dtype=float)
