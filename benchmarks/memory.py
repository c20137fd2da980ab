"""Resident memory of the process during monitored MD of 3BPA: step 500 against the last step (Linux)."""

import os
import tempfile
from pathlib import Path

import numpy as np
from ase import units
from ase.md.langevin import Langevin
from common import MODEL, arguments, report, start

from race_calc import RACECalculator, UncertaintyMonitor


def resident() -> float:
    """Resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


given = arguments(__doc__, model=str(MODEL), steps=5000)
atoms = start(300.0, 0)
atoms.calc = RACECalculator(given.model, device="cpu")
rng = np.random.default_rng(0)
dynamics = Langevin(atoms, 0.5 * units.fs, temperature_K=300, friction=0.02 / units.fs, fixcm=False, rng=rng)
with tempfile.TemporaryDirectory() as folder:
    monitor = UncertaintyMonitor(dynamics, logfile=Path(folder) / "log.jsonl", flagged=None)
    dynamics.run(500)
    before = resident()
    dynamics.run(given.steps - 500)
    after = resident()
report(
    given,
    {
        "steps": dynamics.nsteps,
        "halt": str(monitor.halt_reason),
        "resident at step 500, MiB": before,
        "resident at the end, MiB": after,
        "growth, %": 100 * (after / before - 1),
    },
)
