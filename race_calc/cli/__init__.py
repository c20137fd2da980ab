"""The command `race-calc`: one file a command."""

from race_calc.cli import calibrate, demo, evaluate, info, label, manifest, posterior, predict, select, train  # each registers its command
from race_calc.cli.app import app

__all__ = ["app", "calibrate", "demo", "evaluate", "info", "label", "manifest", "posterior", "predict", "select", "train"]
