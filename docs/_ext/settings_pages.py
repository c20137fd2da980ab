"""Writes the page of the configuration files, `reference/settings.rst`: every key of the YAML of `train` and `learn`.

The classes that check the files are walked: a key that comes, goes or changes its default needs no edit here.
"""

from typing import Any, get_args

from docstrings import plain, reference_page, sentences, table
from pydantic import BaseModel

from race_calc.learning.config import LearnConfig
from race_calc.train.config import TrainConfig

FILES = {
    "race-calc train": (TrainConfig, "`race-calc train CONFIG.yaml`; examples: `models/3bpa-de/train.yaml`, `models/silicon/train.yaml`."),
    "race-calc learn": (LearnConfig, "`race-calc learn CONFIG.yaml`; an example is in :doc:`../learning`. Paths are relative to the file."),
}
INTRODUCTION = """Configuration files
===================

Keys of the YAML files, with their defaults. A key that does not exist, and a value that does not suit, is an error that says what to write.

"""


def setup(app):
    return reference_page(app, "settings.rst", page)


def page() -> str:
    return INTRODUCTION + "\n".join(file_section(name, *content) for name, content in FILES.items())


def file_section(name: str, kind: type[BaseModel], text: str) -> str:
    parts = [name, "-" * len(name), "", text, ""]
    for prefix, group in groups(kind):
        if prefix:
            parts += [prefix, "~" * len(prefix), "", introduction(group), ""]
        parts += keys_table(group, prefix)
    return "\n".join(parts)


def introduction(kind: type[BaseModel]) -> str:
    """What its docstring says, but for errors, which are for those who call it."""
    return " ".join(sentence for sentence in sentences(kind.__doc__ or "") if not sentence.startswith(("Raises", "Made by")))


def groups(kind: type[BaseModel], prefix: str = "") -> list[tuple[str, type[BaseModel]]]:
    """Dotted name ("" at the top) and class of every mapping in the file, outer ones first."""
    inner = [groups(nested, f"{prefix}{key}.") for key, nested in mappings(kind).items()]
    return [(prefix.rstrip("."), kind), *(group for each in inner for group in each)]


def mappings(kind: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The keys whose values are mappings with keys of their own."""
    found = {}
    for key, field in kind.model_fields.items():
        for each in (field.annotation, *get_args(field.annotation)):
            if isinstance(each, type) and issubclass(each, BaseModel):
                found[key] = each
    return found


def keys_table(kind: type[BaseModel], prefix: str) -> list[str]:
    rows, nested = [], mappings(kind)
    for key, field in kind.model_fields.items():
        meaning = plain(field.description or "")
        if key in nested:
            inside = f"{prefix}.{key}" if prefix else key
            meaning = f"a mapping: `{inside}`_" + ("" if field.is_required() or field.default is not None else ", or null")
        rows.append((f"``{key}``", default(field, key in nested), meaning))
    return table(["key", "default", "takes"], rows)


def default(field: Any, mapping: bool) -> str:
    if field.is_required():
        return "required"
    if mapping and field.default is not None:
        return ""
    return f"``{written(field.default)}``"


def written(value: Any) -> str:
    """As it is written in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value) if isinstance(value, tuple) else value)
