"""Under shift: what becomes of errors and σ on other data, and whether the scores tell these data from the known."""

from collections.abc import Mapping, Sequence

import numpy as np

from race_calc.evaluate.assessment import BAD, Comparison
from race_calc.report.colours import COLOURS
from race_calc.report.page.judged import Judged
from race_calc.report.page.parts import DASHES, Chart, Grid, Section, axis, line, rounded, rule
from race_calc.report.tables import milli, percent
from race_calc.uncertainty.decisions import watched
from race_calc.uncertainty.detection import roc
from race_calc.uncertainty.metrics import sharpness
from race_calc.uncertainty.scores import SCORES

MOST = 4  # curves of one figure
INK = "#333"  # of what belongs to no data set


def shift_section(sets: Sequence[Judged], compared: Comparison, thresholds: Mapping[str, float]) -> Section:
    """`thresholds`: criterion → value that "auto" stands for."""
    title = "What happens on other data?"
    if len(sets) == 1:
        text = "Nothing was measured on other data: give files of structures that the model need not know with --ood."
        return Section("shift", title, text, [])
    charts = [_errors(sets), *_scores(sets, compared, thresholds), *[_roc(sets[0], one, compared, k) for k, one in enumerate(sets[1:])]]
    grids = [_detection(sets[0], one, compared) for one in sets[1:]]
    lead = (
        "Errors grow away from the training data. A useful σ grows with them, and a useful score of the monitor tells such structures from "
        "the known ones."
    )
    return Section("shift", title, lead, [part for part in [*charts, *grids] if part is not None])


def _errors(sets: Sequence[Judged]) -> Chart:
    rmse = [1e3 * one.found.evaluation.forces.rmse for one in sets]
    std = [one.found.residuals.forces_std for one in sets]
    names = [one.name for one in sets]
    traces = [_series("RMSE", names, rmse, "circle", "solid")]
    told = [f"{name}: RMSE {value:.3g}" for name, value in zip(names, rmse)]
    if all(one is not None for one in std):
        sigma = [1e3 * sharpness(one) for one in std]  # type: ignore[arg-type]
        traces.append(_series("σ", names, sigma, "square-open", "dash"))
        told = [f"{text}, σ {value:.3g} meV/Å" for text, value in zip(told, sigma)]
    caption = "Does σ grow as fast as the error? Root mean squares over force components."
    layout = {"xaxis": axis("", type="category"), "yaxis": axis("meV/Å", log=True)}
    return Chart("shift-errors", "Force errors and σ under shift", caption, "; ".join(told), traces, layout)


def _series(name: str, x: list[str], y: list[float], symbol: str, dash: str) -> dict:
    marker = {"color": INK, "symbol": symbol, "size": 11, "line": {"width": 2, "color": INK}}
    style = {"color": INK, "dash": dash}
    return {"type": "scatter", "mode": "lines+markers", "name": name, "x": x, "y": rounded(y), "marker": marker, "line": style}


def _scores(sets: Sequence[Judged], compared: Comparison, thresholds: Mapping[str, float]) -> list[Chart]:
    """The share of structures above a value, of the scores that the monitor watches."""
    found = []
    for name in watched(sets[0].found.evaluation.scores, thresholds)[:2]:
        values = [one.found.evaluation.scores[name] for one in sets if name in one.found.evaluation.scores]
        if len(values) < len(sets):
            continue
        row, threshold = SCORES[name], thresholds.get(name)
        traces, told = [], []
        for k, (one, each) in enumerate(zip(sets, values, strict=True)):
            at = np.sort(each)
            traces.append(line(at, 100 * np.arange(len(at), 0, -1) / len(at), one.name, k) | {"line": _steps(k)})
            if threshold is not None:
                told.append(f"{one.name}: {percent(float(np.mean(~(at <= threshold))))} % above the threshold")
        if threshold is not None:
            traces.append(rule([threshold, threshold], [0, 100], f"threshold {row.text(threshold)}"))
        caption = f"The share of structures with a larger score. The monitor acts right of the dotted line. {'; '.join(told)}."
        x = axis(f"{row.label} ({row.unit})" if row.unit else row.label, log=True)
        layout = {"xaxis": x, "yaxis": axis("structures above (%)", range=[0, 102])}
        title = f"Monitor: {row.label}"
        found.append(Chart(f"score-{name.replace('_', '-')}", title, caption, f"{title}. {'; '.join(told)}.", traces, layout))
    return found


def _steps(k: int) -> dict:
    return {"shape": "vh", "color": COLOURS[k % 5], "dash": DASHES[k % 5], "width": 2}


def _roc(known: Judged, other: Judged, compared: Comparison, number: int) -> Chart | None:
    detected = compared.detected[other.file]
    scores, others = known.found.evaluation.scores, other.found.evaluation.scores
    names = sorted((name for name in detected if name in scores and name in others), key=lambda name: -detected[name].auroc)
    first = [compared.criterion] if compared.criterion in names else []
    names = (first + [name for name in names if name not in first])[:MOST]
    if not names:
        return None
    traces, told = [rule([0, 100], [0, 100], "knows nothing")], []
    for k, name in enumerate(names):
        false, true = roc(scores[name], others[name])
        label = f"{SCORES[name].label}: {detected[name].auroc:.3f}"
        traces.append(line(100 * false, 100 * true, label, k))
        told.append(f"AUROC of {label}")
    caption = (
        "Each threshold catches some of the other structures and gives some false alarms. The nearer a curve is to the upper left corner "
        f"the better; the number is the area below it (AUROC). First: the score that the monitor watches; then the best {MOST - 1} others."
    )
    layout = {"xaxis": axis("false alarms (% of the known)", range=[-1, 101]), "yaxis": axis("caught (% of the others)", range=[0, 102])}
    title = f"{other.name} told from {known.name}"
    return Chart(f"roc-{number}", title, caption, f"ROC curves. {'; '.join(told)}.", traces, layout)


def _detection(known: Judged, other: Judged, compared: Comparison) -> Grid:
    detected = compared.detected[other.file]
    rows = []
    for name, d in detected.items():
        label = name if name.startswith("atom: ") else SCORES[name].label
        alarms = [percent(share) for share in (d.alarms_known, d.alarms_other)]
        numbers = [f"{value:.3f}" for value in (d.auroc, d.aupr, d.fpr_at_95_tpr)]
        rows.append([label, *numbers, *alarms, "–" if d.missed is None else str(d.missed)])
    bad = next((d.bad for d in detected.values()), 0)
    head = ["score", "AUROC", "AUPR", "FPR at 95 % TPR", "above auto, known (%)", "above auto, this set (%)", "bad missed"]
    note = (
        f"{bad} structures are bad: force RMSE above {BAD:g} times the {milli(known.found.evaluation.forces.rmse)} meV/Å of {known.name}."
    )
    return Grid(f"{other.name} told from {known.name}", head, rows, note, folded=True)
