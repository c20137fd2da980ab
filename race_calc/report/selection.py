"""What `race-calc select` shows: why each structure was chosen, and where the chosen ones lie. NumPy and matplotlib only."""

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.table import Table

from race_calc.report.figure import BLUE, VERMILION
from race_calc.report.tables import plain, plain_table, row
from race_calc.uncertainty.acquisition import METHODS
from race_calc.uncertainty.candidates import Chosen, Pool
from race_calc.uncertainty.farthest import to_known

GREY = "#BBBBBB"


def selection_table(pool: Pool, chosen: Chosen, method: str, frames: Sequence[int]) -> Table:
    """A line for each chosen structure; `frames`: its number in the file."""
    unit = METHODS[method].unit
    table = plain_table(
        f"{len(chosen.indices)} of {pool.size} by {method}",
        ["chosen", "frame", "score" + (f",\n{unit}" if unit else ""), "spread of forces,\nmeV/Å", "distance to\nthe known"],
    )
    spread, distance = pool.scores.get("variance-forces"), to_known(pool)
    for rank, (index, score) in enumerate(zip(chosen.indices, chosen.scores), 1):
        kind = f"{chosen.by[rank - 1]} " if chosen.by else ""
        cells = [kind + f"{score:.3g}" if method != "random" and score != 0 else "–"]
        cells.append("–" if spread is None else plain(1e3 * float(np.sqrt(spread[index]))))
        cells.append("–" if distance is None else plain(float(distance[index])))
        row(table, str(rank), str(frames[index]), *cells)
    return table


def selection_figure(pool: Pool, chosen: Chosen, method: str) -> Figure:
    """Pool, known and chosen in the two directions in which the pool differs most.

    Raises ValueError for a pool without places: single atoms, or structures of several compositions without features.
    """
    name = next((name for name in ("features", "distances") if name in pool.places), None)
    if name is None:
        raise ValueError("there is nothing to draw: the potential has no last-layer features, and the structures differ in composition")
    places, known = pool.places[name], pool.known.get(name, pool.places[name][:0])
    usable = np.isfinite(places).all(axis=1)
    middle = places[usable].mean(axis=0)
    axes = np.linalg.svd(places[usable] - middle, full_matrices=False)[2][:2]
    drawn, seen = ((values - middle) @ axes.T for values in (places, known))
    if len(axes) < 2:
        drawn, seen = (np.column_stack([values, np.zeros(len(values))]) for values in (drawn, seen))
    figure = Figure(figsize=(4.6, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    axis.scatter(drawn[:, 0], drawn[:, 1], s=8, color=GREY, linewidths=0, label=f"pool ({pool.size})")
    if len(seen):
        axis.scatter(seen[:, 0], seen[:, 1], s=10, color=BLUE, marker="x", linewidths=0.8, label=f"known ({len(seen)})")
    picked = drawn[chosen.indices]
    axis.scatter(
        picked[:, 0], picked[:, 1], s=24, color=VERMILION, edgecolors="white", linewidths=0.5, label=f"chosen ({len(chosen.indices)})"
    )
    axis.set_title(f"Chosen by {method}", fontsize=9)
    what = "last-layer features" if name == "features" else "sorted distances, Å"
    axis.set_xlabel(f"first principal component of {what}", fontsize=8)
    axis.set_ylabel("second", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=7, frameon=False)
    return figure
