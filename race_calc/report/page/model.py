"""What the model is: facts, files with their hashes, the card."""

import re
from collections.abc import Sequence
from pathlib import Path

from markdown_it import MarkdownIt

from race_calc.data.dataset import element_names
from race_calc.posterior.checkpoint import Checkpoint
from race_calc.posterior.manifest import CARD, WEIGHTS, hash_weights, read_manifest
from race_calc.report.model_folder import data_lines, readable, sections, training_lines
from race_calc.report.page.judged import Judged
from race_calc.report.page.parts import Grid, Prose, Section

LARGEST_CARD = 200_000  # characters
EMPTY_HEAD = re.compile(r"<th(?: style=\"[^\"]*\")?></th>")  # names no column: a cell
LIMITS = re.compile(r"^## Limits\s*$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def model_section(folder: Path, checkpoint: Checkpoint) -> Section:
    card = _html(_text(folder), deeper=2)
    lead = "The hashes tell whether somebody else's copy is the same."
    cards = [Prose("The card of the model", html=card)] if card else []
    return Section("model", "What is this model?", lead, [_identity(folder, checkpoint), *cards])


def record_section(folder: Path, checkpoint: Checkpoint, sets: Sequence[Judged]) -> Section:
    """All that its folder tells."""
    hashes = read_manifest(folder) or {WEIGHTS: hash_weights(folder)}
    tables = {title: list(lines.items()) for title, lines in sections(folder, checkpoint).items()}
    grids = [Grid(title, ["", ""], lines, folded=True) for title, lines in tables.items()]
    files = Grid("Files of the model", ["file", "SHA-256"], list(hashes.items()), folded=True)
    measured = [[one.file, str(len(one.data)), one.sha256] for one in sets]
    data = Grid("Data of this page", ["file", "structures", "SHA-256 of the data as read"], measured, folded=True)
    return Section("record", "Settings and hashes", "To make or to check it again.", [*grids, files, data])


def _identity(folder: Path, checkpoint: Checkpoint) -> Grid:
    """What tells this model from others."""
    told = readable(data_lines, checkpoint) | readable(training_lines, checkpoint)
    names = {
        "file": "trained on",
        "SHA-256": "SHA-256 of these data",
        "split": "split",
        "made": "made",
        "validation RMSE": "validation RMSE",
    }
    members = f"{checkpoint.posterior}, {checkpoint.members} member{'s' * (checkpoint.members != 1)}"
    rows = [["elements", element_names(checkpoint.references.species)], ["posterior", members]]
    rows += [[name, told[key]] for key, name in names.items() if key in told]
    rows += [["calibrated", "no" if checkpoint.calibration is None else f"with {checkpoint.calibration.frames} structures"]]
    return Grid("In a few lines", ["", ""], [*rows, ["SHA-256 of its weights", hash_weights(folder)]])


def limits_of_card(folder: Path) -> str:
    """The section "Limits" of the card as HTML, "" where there is none."""
    found = LIMITS.search(_text(folder))
    return "" if found is None else _html(found[1], deeper=1)


def _text(folder: Path) -> str:
    path = folder / CARD
    return path.read_text(encoding="utf-8", errors="replace")[:LARGEST_CARD] if path.is_file() else ""


def _html(text: str, deeper: int) -> str:
    """A card as HTML, its headings `deeper` levels below its own; nothing in it leads away or loads anything."""
    markdown = (
        MarkdownIt("commonmark", {"html": False})
        .enable("table")
        .disable(["link", "image", "autolink", "html_block", "html_inline", "reference"])
    )
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + deeper, 6)}"
    return EMPTY_HEAD.sub("<td></td>", str(markdown.renderer.render(tokens, markdown.options, {})))
