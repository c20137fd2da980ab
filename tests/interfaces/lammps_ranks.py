"""LAMMPS in a process for each rank, and the structure as it has it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np


def run_on(ranks, command, **options):
    """The finished process, or that of mpiexec, which has one thread for each rank; `options` of `subprocess.run`, `env` more settings."""
    if ranks > 1:
        mpiexec = Path(sys.executable).with_name("mpiexec")
        command = [str(mpiexec) if mpiexec.exists() else str(shutil.which("mpiexec")), "-n", str(ranks), *command]
    settings = os.environ | {"OMP_NUM_THREADS": "1"} | options.pop("env", {})
    return subprocess.run(command, capture_output=True, text=True, env=settings, **options)


def placed(atoms, box, positions):
    """The structure in LAMMPS' box (`extract_box`, its first five parts)."""
    low, high, xy, yz, xz = box
    a, b, c = np.subtract(high, low)
    atoms = atoms.copy()
    if atoms.pbc.any():
        atoms.set_cell([[a, 0, 0], [xy, b, 0], [xz, yz, c]])
    atoms.positions = positions
    return atoms
