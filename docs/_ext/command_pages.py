"""Writes the page of the command line, `reference/commands.rst`: every command of `race-calc` with its arguments, options and defaults.

Typer's own parameters are read, so the page says what `--help` says.
"""

from collections.abc import Iterator
from typing import Any

from docstrings import plain, reference_page, sentences, table
from typer.main import get_command

from race_calc.cli import app

INTRODUCTION = """Command line
============

What `race-calc COMMAND --help` says, on one page.

A command ends with status 0 when it has done its work, with 1 and one line about what was wrong when its input is bad, with 2 for an option
that does not exist, and with 130 after Ctrl-C. `md` and `relax` end with 3 where the monitor ended the run, `relax` with 4 where the forces
did not become small enough.

Programs read `models`, `info`, `md` and `relax` with `--json` (on the standard output; progress and flags go to the standard error),
`evaluate --json FILE`, `predict --out FILE.json`, `schema`, and the monitor's log, which is JSON lines.

"""


def setup(app):
    return reference_page(app, "commands.rst", page)


def page() -> str:
    found = list(commands())
    overview = table(["command", "what it does"], [(f"`{name}`_", first_sentence(command)) for name, command in found])
    return INTRODUCTION + "\n".join([*overview, *(section(name, command) for name, command in found)])


def commands() -> Iterator[tuple[str, Any]]:
    """Full name, such as "race-calc posterior fit", and command, sorted; those of a group in its place."""
    yield from _within("race-calc", get_command(app))


def _within(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    inside = getattr(command, "commands", None)
    if inside is None:
        yield name, command
        return
    for each in sorted(inside):
        if not inside[each].hidden:
            yield from _within(f"{name} {each}", inside[each])


def first_sentence(command: Any) -> str:
    return plain(sentences(command.help or "")[0])


def section(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    called = " ".join([name, *(_shown(p) if p.required else f"[{_shown(p)}]" for p in arguments), "[OPTIONS]" if options else ""])
    lines = [name, "-" * len(name), "", plain(command.help or ""), "", ".. code-block:: text", "", f"   {called}", ""]
    rows = [(f"``{_shown(p)}``", kind(p), default(p), plain(p.help or "")) for p in arguments + options]
    return "\n".join(lines + (table(["argument", "takes", "default", "meaning"], rows) if rows else []))


def _shown(parameter: Any) -> str:
    return parameter.name.upper() if parameter.param_type_name == "argument" else ", ".join(parameter.opts)


def kind(parameter: Any) -> str:
    """What is written behind the name; "" for a switch."""
    if getattr(parameter, "is_flag", False):
        return ""
    described = getattr(parameter, "type_descriptor", None)  # of Typer without click
    if described is None:
        name = parameter.type.name
    else:
        inner = getattr(described.annotation, "__args__", (described.annotation,))[0]
        name = {"str": "text", "int": "whole number", "float": "number", "Path": "path"}.get(inner.__name__, inner.__name__)
    return f"{name}, several times" if parameter.multiple else name


def default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    empty = parameter.default is None or parameter.default is False or parameter.default in ([], ())
    return "" if empty else f"``{parameter.default}``"
