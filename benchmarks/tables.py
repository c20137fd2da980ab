"""Tables of the radial functions against the perceptrons: errors per member, memory, and the first step of a process."""

import subprocess
import sys

import numpy as np
import torch
from common import MODEL, arguments, report, start

from race_calc.data.graph import collate, from_atoms
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack

FIRST_STEP = """
import sys, time
began = time.perf_counter()
from race_calc import RACECalculator
from ase.io import read
imported = time.perf_counter()
atoms = read(sys.argv[2])
atoms.calc = RACECalculator(sys.argv[1], device="cpu")
loaded = time.perf_counter()
atoms.get_forces()
print(imported - began, loaded - imported, time.perf_counter() - loaded)
"""

given = arguments(__doc__, model=str(MODEL), frames=20, processes=5)
checkpoint = load_checkpoint(given.model)
cpu = torch.device("cpu")
tables, exact = (load_stack(checkpoint, torch.float64, cpu, compile=True, tables=on) for on in (True, False))
graphs = []
for seed in range(given.frames):
    atoms = start(300.0, seed)
    atoms.rattle(0.1, seed=seed)
    graphs.append(from_atoms(atoms, checkpoint.model.plan.config.cutoff))
graph = collate(graphs)
a, b = tables.predict(graph), exact.predict(graph)
size = sum(value.numel() for name, value in tables.parameters.items() if name.endswith(".table"))
runs = [
    [
        float(x)
        for x in subprocess.run(
            [sys.executable, "-c", FIRST_STEP, given.model, str(MODEL / "start.xyz")], capture_output=True, text=True, check=True
        ).stdout.split()
    ]
    for _ in range(given.processes)
]
imported, loaded, stepped = np.median(runs, axis=0)
report(
    given,
    {
        "rattled frames": given.frames,
        "largest energy error of a member, eV/atom": float(np.abs(a.energies_members - b.energies_members).max() / len(atoms)),
        "largest force error of a member, eV/Å": float(np.abs(a.forces_members - b.forces_members).max()),
        "largest force error of the mean, eV/Å": float(np.abs(a.forces - b.forces).max()),
        "tables in float64, MiB": size * 8 / 2**20,
        "import, s": float(imported),
        "load with tables, s": float(loaded),
        "first step, s": float(stepped),
    },
)
