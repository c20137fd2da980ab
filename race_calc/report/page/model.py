"""What the model is: facts, files with their hashes, the card."""

from collections.abc import Sequence
from pathlib import Path

from markdown_it import MarkdownIt

from race_calc.posterior.checkpoint import Checkpoint
from race_calc.posterior.manifest import CARD, hash_weights, read_manifest
from race_calc.report.model_folder import sections
from race_calc.report.page.judged import Judged
from race_calc.report.page.parts import Grid, Prose, Section

LARGEST_CARD = 200_000  # characters


def model_section(folder: Path, checkpoint: Checkpoint, sets: Sequence[Judged]) -> Section:
    hashes = read_manifest(folder) or {"weights.safetensors": hash_weights(folder)}
    tables = sections(folder, checkpoint)
    grids = [Grid(title, ["", ""], [[key, value] for key, value in lines.items()], folded=True) for title, lines in tables.items()]
    files = Grid("Files and their SHA-256", ["file", "SHA-256"], [[name, digest] for name, digest in hashes.items()], folded=True)
    measured = [[one.file, str(len(one.data)), one.sha256] for one in sets]
    data = Grid("Data of this page", ["file", "structures", "SHA-256 of the data as read"], measured, folded=True)
    card = Prose("The card of the model", html=_card(folder))
    lead = "What stands in its folder. The hashes tell whether somebody else's copy is the same."
    return Section("model", "What is this model?", lead, [*([card] if card.html else []), *grids, files, data])


def _card(folder: Path) -> str:
    """The card as HTML; its headings fit below a folded title, and nothing in it leads away or loads anything."""
    path = folder / CARD
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8", errors="replace")[:LARGEST_CARD]
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "image", "autolink", "html_block", "html_inline", "reference"])
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 3, 6)}"
    return str(markdown.renderer.render(tokens, markdown.options, {}))
