"""Where it is wrong: forces by element and by size of the force."""

from collections.abc import Mapping, Sequence
from typing import Any

from ase.data import chemical_symbols

from race_calc.evaluate.groups import Group, by_element, by_size, size_bounds
from race_calc.report.colours import COLOURS
from race_calc.report.page.judged import Judged
from race_calc.report.page.parts import SYMBOLS, Chart, Grid, Section, axis, rounded
from race_calc.report.tables import milli, percent, plain

Groups = Mapping[Any, Group]


def group_section(sets: Sequence[Judged]) -> Section:
    elements = {one.name: by_element(one.found.residuals, one.found.covered) for one in sets}
    kinds = sorted({z for groups in elements.values() for z in groups})
    by_kind = {z: chemical_symbols[z] for z in kinds}
    bounds = size_bounds([one.found.raw.force_size for one in sets])
    sizes = {one.name: by_size(one.found.residuals, one.found.covered, bounds) for one in sets}
    by_range = {key: f"{key[0]:.2f}–{key[1]:.2f}" for key in sorted({key for groups in sizes.values() for key in groups})}
    return Section(
        "groups",
        "Where is it wrong?",
        "A right mean can hide one element with a σ that is too small, or wrong large forces.",
        [
            _chart("by-element", "Forces by element", "element", elements, by_kind),
            _chart("by-size", "Forces by size of the reference force", "size of the reference force (eV/Å)", sizes, by_range),
            _grid("Forces by element", "element", elements, by_kind),
            _grid("Forces by size of the reference force, eV/Å", "size", sizes, by_range),
        ],
    )


def _chart(key: str, title: str, x: str, groups: Mapping[str, Groups], labels: Mapping[Any, str]) -> Chart:
    traces, told = [], []
    for k, (name, found) in enumerate(groups.items()):
        there = [key for key in labels if key in found]
        names = [labels[key] for key in there]
        for what, open_, values in (("RMSE", "", [found[key].rmse for key in there]), ("σ", "-open", [found[key].sigma for key in there])):
            if None in values:
                continue
            marker = {"color": COLOURS[k % 5], "symbol": SYMBOLS[k % 5] + open_, "size": 10, "line": {"width": 2, "color": COLOURS[k % 5]}}
            y = rounded([1e3 * value for value in values])  # type: ignore[operator]
            traces.append({"type": "scatter", "mode": "markers", "name": f"{name}, {what}", "x": names, "y": y, "marker": marker})
        told.append(f"{name}: " + ", ".join(f"{labels[key]} {milli(found[key].rmse)} (σ {milli(found[key].sigma)})" for key in there))
    caption = (
        "Filled: root mean square error of the components. Open: the root mean square of their σ. Where σ is right the two fall together."
    )
    layout = {"xaxis": axis(x, type="category"), "yaxis": axis("meV/Å", log=True)}
    return Chart(key, title, caption, f"RMSE and σ in meV/Å. {'; '.join(told)}.", traces, layout)


def _grid(title: str, what: str, groups: Mapping[str, Groups], labels: Mapping[Any, str]) -> Grid:
    rows = []
    for name, found in groups.items():
        for key, label in labels.items():
            if key in found:
                one = found[key]
                ratio = None if one.sigma is None or one.rmse == 0 else one.sigma / one.rmse
                numbers = [milli(one.rmse), milli(one.sigma), plain(ratio), percent(one.covered), plain(one.squared)]
                rows.append([f"{name}, {label}", str(one.atoms), *numbers])
    head = [f"data, {what}", "atoms", "RMSE", "σ", "σ / RMSE", "inside 90 %", "dᵀΣ⁻¹d/3"]
    note = "RMSE and σ in meV/Å. dᵀΣ⁻¹d/3 is the mean squared error in units of Σ: 1 where Σ is right."
    return Grid(title, head, rows, note, folded=True)
