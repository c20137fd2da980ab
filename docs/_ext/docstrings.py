"""What a docstring says in this package, in the words of reStructuredText.

- `|d|` is an absolute value here, not a substitution: outside of backticks the bars become U+2223, which looks the same
  and is as wide, so that tables stay aligned.
- A `-` alone in a cell of a table means "none", not the start of a list: it becomes a dash.
- A class of settings (pydantic) says what each key takes in its `description`, a command (typer) what each option means in
  its `help`: a table of them replaces the signature.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.models import ArgumentInfo, ParameterInfo

CODE = re.compile(r"(`+[^`]*`+)")
VERBATIM = re.compile(r"(?<![`\w-])(--[a-z][a-z-]*|[\w.]+@[\w.:]*\w)")
LONE = re.compile(r"(?<=\S)([ ]+)-(?=[ ]|$)", re.MULTILINE)


def setup(app):
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def reference_page(app, name: str, page: Callable[[], str]) -> dict[str, bool]:
    """For the `setup` of an extension: it writes `reference/NAME` when a build begins."""

    def write(app) -> None:
        folder = Path(app.srcdir) / "reference"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(page(), encoding="utf-8")

    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _docstring(app, what, name, obj, options, lines):
    lines[:] = as_meant("\n".join(lines)).split("\n")
    if what == "class" and settings_of(obj):
        lines += ["", *table(["key", "default", "meaning"], settings_of(obj))]
    if what == "function" and options_of(obj):
        lines += ["", *table(["argument", "default", "meaning"], options_of(obj))]


def _signature(app, what, name, obj, options, signature, returns):
    tabled = (what == "class" and settings_of(obj)) or (what == "function" and options_of(obj))
    return ("", None) if tabled else None


def as_meant(text: str) -> str:
    parts = CODE.split(text)  # text and code in turn
    return "".join(part if i % 2 else LONE.sub(r"\1–", part.replace("|", "∣")) for i, part in enumerate(parts))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: auto", ""]
    for row in [header, *rows]:
        lines += [f"   {'*' if k == 0 else ' '} - {cell}" for k, cell in enumerate(row)]
    return [*lines, ""]


def sentences(text: str) -> list[str]:
    """Those of the first paragraph."""
    paragraph = " ".join(inspect.cleandoc(text).split("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z])", paragraph)


def plain(text: str) -> str:
    """As it was typed: no dash in place of `--`, no address of mail in `file@frames`."""
    parts = CODE.split(text)
    return "".join(part if i % 2 else VERBATIM.sub(r"``\1``", part) for i, part in enumerate(parts))


def settings_of(cls: type) -> list[tuple[str, str, str]]:
    """Key, default and allowed values of each setting; none for other classes."""
    if not (isinstance(cls, type) and issubclass(cls, BaseModel)):
        return []
    rows = []
    for name, field in cls.model_fields.items():
        default = "required" if field.is_required() else ""
        if field.default is not PydanticUndefined:
            default = f"``{field.default!r}``"
        nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        rows.append((f"``{name}``", default, f"keys of ``{field.annotation.__name__}``" if nested else field.description or ""))
    return rows


def options_of(function) -> list[tuple[str, str, str]]:
    """Name, default and help of each argument and option of a command; none for other functions."""
    if not inspect.isfunction(function):
        return []
    rows = []
    for name, parameter in inspect.signature(function).parameters.items():
        info = next((entry for entry in getattr(parameter.annotation, "__metadata__", ()) if isinstance(entry, ParameterInfo)), None)
        if info is None:
            continue
        shown = name.upper() if isinstance(info, ArgumentInfo) else ", ".join(info.param_decls or [f"--{name.replace('_', '-')}"])
        empty = parameter.default is None or parameter.default == []
        default = "" if empty else "required" if parameter.default is parameter.empty else f"``{parameter.default!r}``"
        rows.append((f"``{shown}``", default, info.help or ""))
    return rows
