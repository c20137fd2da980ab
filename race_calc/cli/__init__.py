"""The command `race-calc`: one file a command."""

from race_calc.cli import (  # each registers its command
    calibrate,
    demo,
    evaluate,
    export,
    info,
    ipi_driver,
    join,
    label,
    lammps,
    learn,
    manifest,
    posterior,
    predict,
    report,
    select,
    train,
)
from race_calc.cli.app import app

__all__ = [
    "app",
    "calibrate",
    "demo",
    "evaluate",
    "export",
    "info",
    "ipi_driver",
    "join",
    "label",
    "lammps",
    "learn",
    "manifest",
    "posterior",
    "predict",
    "report",
]
__all__ += ["select", "train"]
