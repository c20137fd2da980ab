"""Collects the commands and turns the errors of bad input into one line."""

import sys
from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from typing import Annotated

import typer

from race_calc import __version__

app = typer.Typer(name="race-calc", no_args_is_help=True, pretty_exceptions_enable=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"race_calc {__version__}, torch {version('torch')}, ase {version('ase')}")
        raise typer.Exit


@app.callback()
def root(
    show: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="show versions and end")] = False,
) -> None:
    """Train, evaluate and use RACE potentials that know what they do not know."""


def _told(error: ValueError | OSError) -> str:
    """What the operating system says comes without its number."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}; give another path"


def command(name: str, group: typer.Typer = app) -> Callable:
    """Register a command; ValueError and OSError, the errors of bad input, end it with a message and status 1."""

    full = name if group is app else f"{group.info.name} {name}"

    def register(function: Callable) -> Callable:
        @group.command(name)
        @wraps(function)
        def run(*args, **kwargs):
            try:
                function(*args, **kwargs)
            except (ValueError, OSError) as error:
                print(f"race-calc {full}: {_told(error)}", file=sys.stderr)
                raise typer.Exit(1) from None
            except KeyboardInterrupt:
                print(f"\nrace-calc {full}: interrupted", file=sys.stderr)
                raise typer.Exit(130) from None

        return function

    return register
