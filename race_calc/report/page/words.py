"""The answers at the top of the page, and what the page does not cover. Each sentence is made of measured numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from race_calc.data.dataset import element_names
from race_calc.evaluate.assessment import BAD, Comparison
from race_calc.evaluate.groups import squared_distances
from race_calc.evaluate.reliability import covered
from race_calc.md.log import LoggedRun
from race_calc.report.page.judged import Judged
from race_calc.report.page.parts import Grid
from race_calc.report.page.run import stretches
from race_calc.report.tables import milli, percent
from race_calc.uncertainty.bootstrap import Interval, mean_interval
from race_calc.uncertainty.metrics import rmse, sharpness
from race_calc.uncertainty.scores import SCORES

if TYPE_CHECKING:  # it brings torch, which foreign potentials do without
    from race_calc.posterior.checkpoint import Checkpoint

SMALL, LARGE = 0.8, 1.25  # errors over σ, between which σ is called about right
TAIL = 0.02  # outside of the 99 % ellipsoids, from which it is told
MISSED = 0.05, 0.25  # of the bad structures: up to there a score is fine, and from there on it does not notice
FEW = 100  # structures, below which a number is called rough


@dataclass(frozen=True)
class Answer:
    """One question with its answer; `mark`: "good", "care", "bad" or "" for none."""

    question: str
    text: str
    mark: str = ""


def answers(sets: Sequence[Judged], compared: Comparison, checkpoint: "Checkpoint", runs: Sequence[LoggedRun]) -> list[Answer]:
    """What a reader asks first."""
    return [_purpose(checkpoint), *in_short(sets, compared), *([_run(runs[-1])] if runs else [])]


def in_short(sets: Sequence[Judged], compared: Comparison) -> list[Answer]:
    """How wrong it is, whether σ can be trusted, whether it notices other data."""
    found = [_errors(sets), *[_trust(one, k == 0, seen(one, compared)) for k, one in enumerate(sets)]]
    found += [_warning(sets[0], one, compared) for one in sets[1:] if compared.detected.get(one.file)]
    if len(sets) == 1:
        found.append(Answer("Does it notice what it does not know?", "Not measured: no other data were given (--ood)."))
    return found


def glance(sets: Sequence[Judged]) -> Grid:
    """One row a data set: errors, σ and what it is worth."""
    rows = []
    for k, one in enumerate(sets):
        std, ratio = one.found.residuals.forces_std, error_over_sigma(one)
        rows.append([
            one.name,
            "known" if k == 0 else "other",
            milli(one.found.evaluation.forces.rmse),
            "–" if std is None else milli(sharpness(std)),
            _verdict(ratio),
            _inside(one, "ellipsoids"),
            milli(one.found.evaluation.energy_per_atom.rmse),
            _inside(one, "energy"),
            str(len(one.data)),
        ])  # fmt: skip
    head = ["data", "role", "force RMSE", "force σ", "σ is", "forces in 90 %", "energy RMSE", "energies in 90 %", "structures"]
    note = (
        "Forces in meV/Å, energies in meV per atom; percent of the references in ellipsoids and intervals for 90 % of them, in brackets "
        "95 % intervals over resampled structures. σ: root mean square of the force components."
    )
    return Grid("At a glance", head, rows, note)


def _inside(one: Judged, quantity: str) -> str:
    levels = one.found.levels.get(quantity)
    return "–" if levels is None else _percent(covered(levels, one.found.raw.frame, quantity, (0.9,))[0.9])


def seen(one: Judged, compared: Comparison) -> bool:
    """Whether the model has seen all of these structures before, so that its results flatter it."""
    overlap = compared.overlaps.get(one.file)
    return overlap is not None and bool(overlap.seen) and not overlap.unseen


def error_over_sigma(one: Judged) -> Interval | None:
    """Root of the mean dᵀΣ⁻¹d / 3 of the forces, 1 where Σ is right; of members too few for that the ratio of the root mean squares of
    error and σ; None without a σ."""
    residuals = one.found.residuals
    squared = squared_distances(residuals)
    if squared is None:
        std = residuals.forces_std
        return None if std is None else Interval(rmse(residuals.forces) / sharpness(std), math.nan, math.nan)
    mean = float(squared.mean())
    if not math.isfinite(mean) or len(one.data) < 2:
        value = math.sqrt(mean / 3) if mean >= 0 else math.nan
        return Interval(value, math.nan, math.nan)
    found = mean_interval(squared, one.found.raw.frame)
    return Interval(*[math.sqrt(value / 3) for value in (found.value, found.low, found.high)])


def limits(sets: Sequence[Judged], compared: Comparison, checkpoint: "Checkpoint") -> list[str]:
    """What is not covered."""
    elements = element_names(checkpoint.references.species)
    names = ", ".join(one.name for one in sets)
    lines = [
        "The error of the labels. σ is about the reference method (functional, basis set, code), not about nature: what the method gets "
        "wrong the model learns, and σ does not see it.",
        f"What no member can say. All members share one design (cutoff {checkpoint.model.plan.config.cutoff:g} Å, a local energy for each "
        "atom, no charges or spins beyond it) and one training set. Where the design is wrong they can be wrong together, with a small σ.",
        f"Other structures than these. Coverage was measured on {names}. It is no promise for another molecule, phase or reaction, even of "
        f"the same elements; for other elements than {elements} the model gives nothing.",
        "What depends on many forces at once. Σ is that of one atom at a time: errors of neighbours and of steps that follow each other "
        "are correlated, so the σ of averages, barriers or rates is not the sum of these.",
    ]
    few = [f"{one.name} ({len(one.data)})" for one in sets if len(one.data) < FEW]
    if few:
        lines.append(f"Small data sets: {', '.join(few)} structures. Read the intervals in brackets, not the number alone.")
    untold = sorted({part for one in compared.overlaps.values() for part in one.untold})
    if untold:
        lines.append(f"Whether the model has seen these structures before: it keeps no record of its {' and '.join(untold)}.")
    return lines


def _purpose(checkpoint: "Checkpoint") -> Answer:
    record, split = checkpoint.training, checkpoint.data.get("split", {})
    trained = len(split["train"]) if isinstance(split, dict) and "train" in split else None
    parts = [f"Structures of {element_names(checkpoint.references.species)} like those it was trained on"]
    parts += [f": {trained} structures" if trained else "", f", on {record['date']}" if record.get("date") else ""]
    members = f"{checkpoint.members} members" if checkpoint.members > 1 else "One model"
    return Answer("What is it for?", f"{''.join(parts)}. {members} ({checkpoint.posterior}).")


def _errors(sets: Sequence[Judged]) -> Answer:
    told = [
        f"{one.name}: {milli(one.found.evaluation.energy_per_atom.rmse)} meV per atom, {milli(one.found.evaluation.forces.rmse)} meV/Å"
        for one in sets
    ]
    return Answer("How wrong is it?", f"RMSE of energies and forces, {'; '.join(told)}.")


def _trust(one: Judged, known: bool, flattered: bool) -> Answer:
    question = f"May I trust σ on {'known' if known else 'other'} data ({one.name})?"
    ratio, verdict = error_over_sigma(one), _verdict(error_over_sigma(one))
    if ratio is None:
        return Answer(question, "This model gives no covariance of the forces, so nothing can be told.", "care")
    whole = "ellipsoids" in one.found.levels
    name, parts, what = ("ellipsoids", "forces", "ellipsoids") if whole else ("forces", "force components", "intervals")
    shares = covered(one.found.levels[name], one.found.raw.frame, name, (0.9, 0.99))
    outside = 1.0 - shares[0.99].value
    answer = {"about right": "On average yes", "too large": "It is cautious"}.get(verdict, "No")
    spread = "" if math.isnan(ratio.low) else f" ({ratio.low:.2f}–{ratio.high:.2f})"
    text = f"{answer}: errors are {ratio.value:.2f}{spread} times σ; {_percent(shares[0.9])} % of the {parts} lie in their 90 % {what}."
    if outside > TAIL:
        text += f" Large errors are more frequent than it says: {100 * outside:.1f} % outside of the 99 % {what}."
    if not whole and one.found.residuals.forces_covariance is not None:
        text += " Its members are too few for ellipsoids."
    if flattered:
        text += " But the model has seen these structures, which flatters it."
    doubt = outside > TAIL or flattered
    return Answer(question, text, "bad" if verdict == "too small" else "care" if doubt or verdict == "too large" else "good")


def _verdict(ratio: Interval | None) -> str:
    if ratio is None:
        return "not given"
    if not ratio.value <= LARGE:  # NaN and ∞
        return "too small"
    return "too large" if ratio.value < SMALL else "about right"


def _warning(known: Judged, other: Judged, compared: Comparison) -> Answer:
    """Of the score that the monitor watches first."""
    question = f"Does it notice {other.name}?"
    if seen(other, compared):
        return Answer(question, "It need not: the model was made with these structures.")
    one = compared.detected[other.file].get(compared.criterion)
    if one is None:
        return Answer(question, "The score that the monitor watches cannot be told of these structures.", "care")
    row = SCORES[compared.criterion]
    text = f"{row.label[:1].upper() + row.label[1:]}: AUROC {one.auroc:.3f}"
    if one.alarms_known is None or one.missed is None:
        return Answer(question, f"{text}. The model has no threshold for it: calibrate it to get one.", "care")
    text += (
        f"; {percent(one.alarms_other)} % of the structures are above the threshold, and {percent(one.alarms_known)} % of {known.name}. "
    )
    bad = f"bad (force RMSE above {BAD:g} times that of {known.name})"
    text += f"{one.bad} are {bad}; this score alone misses {one.missed}." if one.bad else f"None is {bad}."
    share = one.missed / max(one.bad, 1)
    return Answer(question, text, "good" if share <= MISSED[0] else "care" if share <= MISSED[1] else "bad")


def _run(run: LoggedRun) -> Answer:
    found = stretches(run)
    halts = [one for one in found if one.action == "halt"]
    flags = sum(one.checks for one in found if one.action == "flag")
    steps = int(run.step[-1]) if len(run.step) else 0
    if halts:
        return Answer(
            "What did the run do?", f"The monitor halted it at step {halts[-1].first}; {flags} checks before were flagged.", "care"
        )
    return Answer("What did the run do?", f"{steps} steps, {flags} flagged checks, no halt.", "care" if flags else "good")


def _percent(interval: Interval) -> str:
    spread = "" if np.isnan(interval.low) else f" ({100 * interval.low:.0f}–{100 * interval.high:.0f})"
    return f"{100 * interval.value:.0f}{spread}"
