"""The command `race-calc`: one file a command."""

from race_calc.cli import (  # each registers its command
    calibrate,
    demo,
    evaluate,
    export,
    info,
    init,
    ipi_driver,
    join,
    label,
    lammps,
    learn,
    manifest,
    md,
    models,
    plot,
    posterior,
    predict,
    relax,
    report,
    select,
    train,
    watch,
)
from race_calc.cli.app import app

__all__ = ["app", "calibrate", "demo", "evaluate", "export", "info", "init", "ipi_driver", "join", "label"]
__all__ += ["lammps", "learn", "manifest", "md", "models", "plot", "posterior", "predict", "relax", "report", "select", "train", "watch"]
