"""What a docstring says in this package, in the words of reStructuredText.

- `|d|` is an absolute value here, not a substitution: outside of backticks the bars become U+2223, which looks the same
  and is as wide, so that tables stay aligned.
- A `-` alone in a cell of a table means "none", not the start of a list: it becomes a dash.
- A class of settings (pydantic) says what each key takes in its `description`: a table of the keys replaces its signature.
"""

import re

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

CODE = re.compile(r"(`+[^`]*`+)")
LONE = re.compile(r"(?<=\S)([ ]+)-(?=[ ]|$)", re.MULTILINE)


def setup(app):
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _docstring(app, what, name, obj, options, lines):
    lines[:] = as_meant("\n".join(lines)).split("\n")
    if _is_settings(what, obj):
        lines += ["", *settings_table(obj)]


def _signature(app, what, name, obj, options, signature, returns):
    return ("", None) if _is_settings(what, obj) else None


def as_meant(text: str) -> str:
    parts = CODE.split(text)  # text and code in turn
    return "".join(part if i % 2 else LONE.sub(r"\1–", part.replace("|", "∣")) for i, part in enumerate(parts))


def settings_table(settings: type[BaseModel]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: auto", ""]
    for key, default, takes in [("key", "default", "takes"), *(_row(*item) for item in settings.model_fields.items())]:
        lines += [f"   * - {key}", f"     - {default}", f"     - {takes}"]
    return [*lines, ""]


def _row(name: str, field) -> tuple[str, str, str]:
    if field.default is not PydanticUndefined:
        default = f"``{field.default!r}``"
    else:
        default = "required" if field.is_required() else ""
    nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    return f"``{name}``", default, f"the keys of ``{field.annotation.__name__}``" if nested else field.description or ""


def _is_settings(what: str, obj) -> bool:
    return what == "class" and issubclass(obj, BaseModel) and bool(obj.model_fields)
