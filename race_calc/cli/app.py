"""Collects the commands and turns the errors of bad input into one line."""

import sys
from collections.abc import Callable
from functools import wraps

import typer

app = typer.Typer(
    name="race-calc",
    help="Train, evaluate and use RACE potentials that know what they do not know.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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
                print(f"race-calc {full}: {error}", file=sys.stderr)
                raise typer.Exit(1) from None
            except KeyboardInterrupt:
                print(f"\nrace-calc {full}: interrupted", file=sys.stderr)
                raise typer.Exit(130) from None

        return function

    return register
