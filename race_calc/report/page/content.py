"""The page of one model: its sections in the order in which they are read."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from race_calc import __version__
from race_calc.evaluate.assessment import Comparison
from race_calc.posterior.checkpoint import Checkpoint
from race_calc.report.evaluation_doubts import level_lines, overlap_lines
from race_calc.report.page.errors import error_section
from race_calc.report.page.groups import group_section
from race_calc.report.page.halt import halt_section
from race_calc.report.page.judged import Judged, judged_sets
from race_calc.report.page.model import limits_of_card, model_section, record_section
from race_calc.report.page.monitored import NO_RUN, Monitored
from race_calc.report.page.parts import Prose, Section
from race_calc.report.page.render import Page
from race_calc.report.page.run import run_section
from race_calc.report.page.shift import shift_section
from race_calc.report.page.trust import trust_section
from race_calc.report.page.words import answers, glance, limits
from race_calc.report.page.worst import frame_structures, worst_section


def model_page(
    folder: Path,
    checkpoint: Checkpoint,
    compared: Comparison,
    short: Sequence[str],
    thresholds: Mapping[str, float],
    model_hash: str | None,
    seen: Monitored = NO_RUN,
) -> Page:
    """`short`: names of the files; `thresholds`: what "auto" stands for; `seen`: a monitored run."""
    name = folder.resolve().name
    sets, named = judged_sets(compared, short), dict(zip(compared.found, short, strict=True))
    overlaps = {named[file]: one for file, one in compared.overlaps.items()}
    warnings = overlap_lines(overlaps) + level_lines({one.name: one.found for one in sets})
    sections = [
        model_section(folder, checkpoint),
        error_section(sets),
        trust_section(sets),
        group_section(sets),
        shift_section(sets, compared, thresholds),
        worst_section(sets, frame_structures(seen.frames)),
        *([run_section(seen, model_hash)] if seen.runs else []),
        *halt_section(seen, checkpoint.environments, model_hash, name),
        Section("limits", "What is not covered", "No number on this page speaks of these.", _limits(folder, sets, compared, checkpoint)),
        record_section(folder, checkpoint, sets),
    ]
    made = f"race_calc {__version__}, {time.strftime('%Y-%m-%d')}"
    return Page(f"{name}: what it knows", name, made, answers(sets, compared, checkpoint, seen.runs), warnings, glance(sets), sections)


def _limits(folder: Path, sets: Sequence[Judged], compared: Comparison, checkpoint: Checkpoint) -> list[Prose]:
    card = limits_of_card(folder)
    own = [Prose("Limits, as the card of the model tells them", html=card, folded=False)] if card else []
    return [Prose("", limits(sets, compared, checkpoint)), *own]
