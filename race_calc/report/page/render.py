"""From sections to one HTML file: template, styles, scripts and data, all inside."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from race_calc.report.page.parts import Chart, Section, Viewer
from race_calc.report.page.words import Answer

LIBRARIES = {"plotly-basic.min.js": "plotly.js", "3Dmol-min.js": "3Dmol.js"}


@dataclass(frozen=True)
class Page:
    """All that the template shows."""

    title: str
    model: str
    made: str
    answers: Sequence[Answer]
    warnings: Sequence[str]
    glance: Any
    sections: Sequence[Section]


def html(page: Page) -> str:
    """The whole file. Text is escaped by the template; data and scripts cannot end their element."""
    loader = PackageLoader("race_calc.report.page", "assets")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    parts = [part for section in page.sections for part in section.parts]
    charts = {part.key: {"traces": part.traces, "layout": part.layout} for part in parts if isinstance(part, Chart)}
    structures = [one for part in parts if isinstance(part, Viewer) for one in part.structures]
    used = [name for name in LIBRARIES if name.startswith("plotly") or structures]
    return environment.get_template("page.html").render(
        page=page,
        style=_asset("page.css"),
        script=_asset("page.js"),
        libraries=[_asset(name) for name in used],
        licences=[(LIBRARIES[name], _text(f"{LIBRARIES[name]}.LICENSE")) for name in used],
        data=_data({"charts": charts, "structures": structures}),
    )


def _asset(name: str) -> Markup:
    text = _text(name)
    if "</script" in text.lower() or "</style" in text.lower():
        raise RuntimeError(f"{name} would end the element that it stands in")
    return Markup(text)


def _text(name: str) -> str:
    return files("race_calc.report.page").joinpath("assets").joinpath(name).read_text(encoding="utf-8")


def _data(content: Any) -> Markup:
    """JSON in a script element: no "<" in it, so that nothing ends the element."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))
