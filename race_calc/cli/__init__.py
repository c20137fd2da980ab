"""The command `race-calc`: one file a command."""

from race_calc.cli.app import app

__all__ = ["app"]
