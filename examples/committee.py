"""A committee of ASE's own potentials, watched until its members disagree: argon that is heated and pressed together.

python examples/committee.py [FOLDER] [STEPS]
"""

import sys
from pathlib import Path

import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.md.langevin import Langevin

from race_calc import Committee, Criterion, UncertaintyMonitor, read_log

folder, steps = sys.argv[1:] + [".", 1000][len(sys.argv) - 1 :]
folder = Path(folder)

atoms = bulk("Ar", "fcc", a=5.26, cubic=True) * 2
depths = (0.0100, 0.0104, 0.0108)  # eV: three fits that agree near the minimum, and less the closer atoms come
atoms.calc = Committee([LennardJones(epsilon=depth, sigma=3.4, rc=8.0, smooth=True) for depth in depths])

dyn = Langevin(atoms, 4 * units.fs, temperature_K=80, friction=0.01 / units.fs, fixcm=False, rng=np.random.default_rng(0))
criteria = [
    Criterion("forces_uncertainty_rms_epistemic", 0.002, "flag"),  # eV/Å
    Criterion("forces_uncertainty_rms_epistemic", 0.004, "halt"),
]
monitor = UncertaintyMonitor(dyn, criteria, logfile=folder / "argon.jsonl", flagged=folder / "argon_flagged.xyz")
dyn.attach(lambda: atoms.set_cell(atoms.cell * 0.9995, scale_atoms=True))  # a little smaller at every step
dyn.run(int(steps))

run = read_log(folder / "argon.jsonl")[-1]
largest = run.scores["forces_uncertainty_rms_epistemic"].max()
print(f"{dyn.nsteps} steps, {atoms.get_volume() / len(atoms):.1f} Å³ per atom; largest σ of the forces {1e3 * largest:.2f} meV/Å")
print(monitor.halt_reason or "the monitor did not end the run")
