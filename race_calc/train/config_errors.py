"""Pydantic's errors as messages that say what to write instead."""

import difflib
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from race_calc.data.files import shortened
from race_calc.model.config import Settings
from race_calc.train.yaml_file import read_yaml

MOST_LINES, LONGEST_LINE = 12, 500  # of a message; in characters
Kind = TypeVar("Kind", bound=Settings)


class ConfigError(ValueError):
    """A configuration that cannot be used; the message lists every problem with its key."""


def load_settings(path: str | Path, kind: type[Kind]) -> Kind:
    """Read a YAML file and check it against a schema.

    Raises ConfigError for a missing file, text that is not YAML, a repeated key, an alias and everything `parse_settings` refuses.
    """
    path = Path(path)
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        raise ConfigError(f"configuration file {path} does not exist: check the path ({path.absolute()})") from None
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return parse_settings(content, kind, str(path))


def parse_settings(content: Any, kind: type[Kind], source: str) -> Kind:
    """Check a mapping of plain YAML or JSON types against a schema.

    Raises ConfigError; its message has one line per problem with the full key, the value, the allowed values and, for a wrong key, the
    nearest right one.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(
            f"{source} must hold a mapping with the keys {', '.join(kind.model_fields)}; "
            f"found {'nothing' if content is None else type(content).__name__}"
        )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        lines: dict[str, str] = {}  # one line per key: a union reports each of its branches
        for problem in error.errors():
            key, line = describe(problem, content, kind)
            lines.setdefault(key, line)
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        told = [line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + " …" for line in lines.values()]
        if len(told) > MOST_LINES:
            told[MOST_LINES:] = [f"and {len(told) - MOST_LINES} more"]
        raise ConfigError("\n  ".join([f"{source} has {count}:", *told])) from None


def describe(problem: Mapping[str, Any], content: Mapping, root: type[Settings]) -> tuple[str, str]:
    """(full key, message line) of one entry of pydantic's ``ValidationError.errors()``.

    ``content`` is the mapping that was checked, ``root`` the settings class it was checked against.
    """
    section: type[Settings] | None = root
    field, keys = None, []
    value: Any = content
    for step in problem["loc"]:
        if section is None:
            break  # inside a list or a union: the key itself is enough
        value = value.get(step) if isinstance(value, Mapping) else None
        field = section.model_fields.get(step)
        keys.append(shortened(str(step)))
        if field is None:
            break
        section = _section(field.annotation)
    key = ".".join(keys)
    if field is None:
        return key, _unknown_key(key, root)
    if section is not None:
        inner = ", ".join(section.model_fields)
        if problem["type"] == "missing":
            return key, f"{key} is missing: add this section (keys: {inner})"
        if problem["type"] == "value_error":  # right in itself, not beside the other sections
            return key, str(problem["ctx"]["error"])
        found = "nothing" if value is None else shown_value(value)
        return key, f"{key} must be a section with keys ({inner}); found {found}"
    if problem["type"] == "missing":
        return key, f"{key} is missing: give {field.description}"
    reason = f" ({problem['ctx']['error']})" if problem["type"] == "value_error" else ""
    shown = shown_value(value) if _given(content, keys) else f"{field.default!r} (the default)"
    allowed = problem.get("ctx", {}).get("allowed", field.description)
    return key, f"{key} = {shown} is not allowed{reason}; allowed: {allowed}"


def shown_value(value: Any) -> str:
    """A value in at most some 200 characters, however large it is."""
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = brief.maxlong = 100
    try:
        return shortened(brief.repr(value))
    except ValueError:  # Python writes no numbers of thousands of digits
        return f"a {type(value).__name__} of too many digits"


def _unknown_key(key: str, root: type[Settings]) -> str:
    """Message with the nearest right key: in the same section first, then anywhere."""
    section, _, name = key.rpartition(".")
    known = [full.rpartition(".") for full in _all_keys(root)]  # (section, ".", name)
    here = {n: f"{s}{dot}{n}" for s, dot, n in known if s == section}
    anywhere = {n: f"{s}{dot}{n}" for s, dot, n in reversed(known)}
    for keys in (here, {name: anywhere[name]} if name in anywhere else {}, anywhere):
        nearest = difflib.get_close_matches(name, keys, n=1)
        if nearest:
            return f"{key} is not a key; did you mean {keys[nearest[0]]}?"
    return f"{key} is not a key; keys {'of ' + section if section else 'here'}: {', '.join(here)}"


def _all_keys(section: type[Settings], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        inner = _section(field.annotation)
        if inner is not None:
            yield from _all_keys(inner, f"{prefix}{name}.")


def _given(content: Any, keys: list[str]) -> bool:
    for key in keys:
        if not isinstance(content, Mapping) or key not in content:
            return False
        content = content[key]
    return True


def _section(annotation: Any) -> type[Settings] | None:
    """The settings of a section, also of one that may be null; None for other fields."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, Settings):
            return one
    return None
