"""May σ be trusted: reliability diagrams, Mahalanobis distances against χ²₃, σ against error."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, ndtri

from race_calc.evaluate.groups import group, squared_distances
from race_calc.evaluate.reliability import covered, inside
from race_calc.report.colours import COLOURS
from race_calc.report.page.judged import Judged
from race_calc.report.page.parts import SYMBOLS, Chart, Grid, Section, axis, cloud, drawn, line, rounded, rule, thinned
from race_calc.uncertainty.bootstrap import Interval
from race_calc.uncertainty.metrics import NOMINAL_LEVELS, sharpness

LEVELS = (0.5, 0.68, 0.9, 0.95, 0.99)
TITLES = {
    "energy": "Energies",
    "forces": "Force components",
    "ellipsoids": "Force vectors in their ellipsoids",
    "stress": "Stress components",
    "stress ellipsoids": "Stresses in their ellipsoids",
}
BINS = 8
BANDS = ((0.05, 0.95, "90 %"), (0.25, 0.75, "50 %"))  # quantiles of |d| of a half-normal, and what lies between


@dataclass(frozen=True)
class Covered:
    """Coverage of one quantity of one data set: name of both, level → share, after the calibration where there is one."""

    quantity: str
    data: str
    shares: dict[float, Interval]


def trust_section(sets: Sequence[Judged]) -> Section:
    known = sets[0].found
    if not known.levels:
        return Section("trust", "May I trust σ?", "This model gives no uncertainty: there is nothing to judge.", [])
    after = " Thin dotted lines: before the calibration." if known.after else " This model is not calibrated."
    charts = [_diagram(sets, quantity, after) for quantity in known.levels]
    found = [*charts, coverage_grid(sets), _chi_square(sets), _error_chart(sets, "energy", "meV"), _error_chart(sets, "forces", "meV/Å")]
    found += [_binned(sets)]
    return Section(
        "trust",
        "May I trust σ?",
        "σ can be trusted where errors are as large as it says: an interval for 90 % of the references should hold 90 % of them.",
        [part for part in found if part is not None],
    )


def coverages(sets: Sequence[Judged]) -> list[Covered]:
    """At LEVELS, with 95 % intervals over resampled structures."""
    return [
        Covered(quantity, one.name, covered(levels, one.found.raw.frame, quantity, LEVELS))
        for quantity in TITLES
        for one in sets
        for levels in [one.found.levels.get(quantity)]
        if levels is not None and len(levels)
    ]


def coverage_grid(sets: Sequence[Judged]) -> Grid:
    rows = [
        [f"{TITLES[each.quantity]}, {each.data}", *[_share(each.shares[level]) for level in LEVELS]]
        for each in coverages(sets)
    ]  # fmt: skip
    note = "Percent of the references inside, and in brackets the 95 % interval over resampled structures."
    return Grid("Coverage", ["data", *[f"of {100 * level:.0f} %" for level in LEVELS]], rows, note)


def _diagram(sets: Sequence[Judged], quantity: str, after: str) -> Chart:
    traces, told = [rule([0, 100], [0, 100], "right")], []
    for k, one in enumerate(sets):
        levels, before = one.found.levels.get(quantity), one.found.before.get(quantity)
        if levels is None or not len(levels):
            continue
        if one.found.after and before is not None:
            style = {"color": COLOURS[k % 5], "width": 1, "dash": "dot"}
            curve = _curve(before, quantity)
            traces.append(line(100 * NOMINAL_LEVELS, curve, f"{one.name}, before", k) | {"line": style, "showlegend": False})
        traces.append(line(100 * NOMINAL_LEVELS, _curve(levels, quantity), one.name, k) | {"showlegend": False})
        shares = covered(levels, one.found.raw.frame, quantity, LEVELS)
        traces.append(_marked(one.name, k, shares))
        told.append(f"{one.name}: {_share(shares[0.9])} inside 90 %")
    caption = "Above the dotted diagonal σ is too large, below it too small. Bars: 95 % intervals." + after
    layout = {
        "xaxis": axis("interval should hold (%)", range=[0, 102], dtick=20),
        "yaxis": axis("references inside (%)", range=[0, 102], dtick=20),
    }
    summary = f"Reliability diagram of {TITLES[quantity].lower()}. {'; '.join(told)}."
    return Chart(f"reliability-{quantity.replace(' ', '-')}", TITLES[quantity], caption, summary, traces, layout)


def _curve(levels: np.ndarray, quantity: str) -> np.ndarray:
    return np.array([100 * inside(levels, level, quantity).mean() for level in NOMINAL_LEVELS])


def _marked(name: str, k: int, shares: dict[float, Interval]) -> dict:
    values = np.array([(i.value, i.high - i.value, i.value - i.low) for i in shares.values()])
    bars = {"type": "data", "symmetric": False, "array": rounded(100 * values[:, 1]), "arrayminus": rounded(100 * values[:, 2])}
    marker = {"color": COLOURS[k % 5], "symbol": SYMBOLS[k % 5], "size": 8, "opacity": 1}
    return cloud(100 * np.array(list(shares)), 100 * values[:, 0], name, k) | {"error_y": bars, "marker": marker}


def _chi_square(sets: Sequence[Judged]) -> Chart | None:
    at = np.concatenate([np.linspace(0.0, 8.0, 41), np.geomspace(8.5, 100.0, 30)])
    traces, told = [rule(at[at < 22], 100 * chdtrc(3, at[at < 22]), "χ² with 3 degrees of freedom")], []
    for k, one in enumerate(sets):
        squared = squared_distances(one.found.residuals)
        if squared is None:
            continue
        share = 100 * np.array([np.mean(~(squared <= value)) for value in at])
        traces.append(line(at, np.where(share > 0, share, np.nan), one.name, k))
        told.append(f"{one.name} {100 * np.mean(~(squared <= 11.345)):.1f} %")
    if not told:
        return None
    caption = (
        "d² = dᵀΣ⁻¹d is the squared force error in units of its own covariance. Where Σ is right it follows χ² with three degrees of "
        f"freedom. A line above the dotted one: errors are larger than Σ says. Atoms beyond 11.3, where 1 % should be: {', '.join(told)}."
    )
    layout = {"xaxis": axis("Mahalanobis d²", range=[0, 40]), "yaxis": axis("atoms with a larger d² (%)", log=True, range=[-1.5, 2.05])}
    summary = f"Share of atoms beyond a Mahalanobis distance, against χ². Beyond 11.3, where 1 % should be: {', '.join(told)}."
    return Chart("chi-square", "Force errors in units of their covariance", caption, summary, traces, layout)


def _error_chart(sets: Sequence[Judged], quantity: str, unit: str) -> Chart | None:
    clouds = []
    for k, one in enumerate(sets):
        std = getattr(one.found.residuals, f"{quantity}_std")
        if std is None:
            continue
        error, std = 1e3 * np.abs(getattr(one.found.residuals, quantity)).ravel(), 1e3 * std.ravel()
        good = np.flatnonzero((error > 0) & (std > 0) & np.isfinite(error) & np.isfinite(std))
        if len(good):
            clouds.append((k, one.name, error[good], std[good]))
    if not clouds:
        return None
    traces, told, total = _bands(np.concatenate([std for *_, std in clouds])), [], 0
    for k, name, error, std in clouds:
        chosen = thinned(error)
        traces.append(cloud(std[chosen], error[chosen], name, k))
        told.append(f"{name}: mean |error| {np.mean(error):.3g}, mean σ {np.mean(std):.3g} {unit}")
        total = max(total, len(error))
    floor = min(float(np.quantile(error, 0.01)) for _, _, error, _ in clouds)
    top = max(float(error.max()) for _, _, error, _ in clouds)
    title = "Energies" if quantity == "energy" else "Force components"
    caption = f"Where σ is right half of the points lie in the dark band and nine of ten in the light one.{drawn(total)}"
    layout = {
        "xaxis": axis(f"predicted σ ({unit})", log=True),
        "yaxis": axis(f"|error| ({unit})", log=True, range=[float(np.log10(floor)), float(np.log10(2 * top))]),
    }
    return Chart(f"sigma-{quantity}", f"{title}: error against σ", caption, f"{title}. {'; '.join(told)}.", traces, layout)


def _bands(std: np.ndarray) -> list[dict]:
    x = np.array([std.min() / 1.2, std.max() * 1.2])
    found = []
    for (low, high, share), colour in zip(BANDS, ("rgba(0,0,0,0.07)", "rgba(0,0,0,0.14)"), strict=True):
        bounds = np.concatenate([x * ndtri(0.5 + 0.5 * low), (x * ndtri(0.5 + 0.5 * high))[::-1]])
        area = {"fill": "toself", "fillcolor": colour, "line": {"width": 0}, "mode": "lines", "hoverinfo": "skip"}
        place = {"x": rounded(np.concatenate([x, x[::-1]])), "y": rounded(bounds)}
        found.append({"type": "scatter", "name": f"{share} if right", **place, **area})
    return found


def _binned(sets: Sequence[Judged]) -> Chart | None:
    traces, told, values = [], [], []
    for k, one in enumerate(sets):
        residuals = one.found.residuals
        std = residuals.forces_std
        if std is None or len(std) < 5 * BINS:
            continue
        own = np.sqrt((std**2).mean(axis=1))
        place = np.clip(np.searchsorted(np.quantile(own, np.linspace(0, 1, BINS + 1)), own, side="right") - 1, 0, BINS - 1)
        bins = [group(residuals, place == b, None, None) for b in np.unique(place)]
        x, y = (1e3 * np.array(v) for v in ([g.sigma for g in bins], [g.rmse for g in bins]))
        traces.append(line(x, y, one.name, k) | {"mode": "lines+markers", "marker": {"symbol": SYMBOLS[k % 5], "size": 8}})
        told.append(f"{one.name}: RMSE {1e3 * np.sqrt((residuals.forces**2).mean()):.3g}, σ {1e3 * sharpness(std):.3g} meV/Å")
        values += [*x, *y]
    if not told:
        return None
    ends = [min(values), max(values)]
    caption = (
        f"Atoms in {BINS} equal groups of rising σ: does a larger σ mean a larger error, and is it as large? On the dotted line it is. "
        "Above it σ is too small."
    )
    layout = {"xaxis": axis("root mean square σ (meV/Å)", log=True), "yaxis": axis("force RMSE (meV/Å)", log=True)}
    return Chart(
        "sigma-bins", "Force RMSE of atoms with the same σ", caption, "; ".join(told), [rule(ends, ends, "right"), *traces], layout
    )


def _share(interval: Interval) -> str:
    if np.isnan(interval.low):
        return f"{100 * interval.value:.1f}"
    return f"{100 * interval.value:.1f} ({100 * interval.low:.1f}–{100 * interval.high:.1f})"
