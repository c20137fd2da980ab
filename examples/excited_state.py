"""Fulvene on its first excited state: run until the model cannot tell any more which state is the lower one.

python examples/excited_state.py [MODEL] [FOLDER] [STEPS]
"""

import sys
from pathlib import Path

import numpy as np
from ase import units
from ase.io import read
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

from race_calc import Criterion, RACECalculator, UncertaintyMonitor
from race_calc.posterior.shipped import model_folder

SHIPPED = Path(__file__).resolve().parents[1] / "models" / "fulvene"
model, folder, steps = sys.argv[1:] + [SHIPPED, ".", 400][len(sys.argv) - 1 :]

atoms = read(Path(model_folder(model)) / "start.xyz")  # relaxed in the ground state
atoms.calc = RACECalculator(model, state="S1")
MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))


def tell() -> None:
    results = atoms.calc.results
    gap, sigma = results["gap"], results["gap_uncertainty"]
    print(f"{dynamics.get_time() / units.fs:6.1f} fs: S1 is {gap:.2f} ± {sigma:.2f} eV from S0, |h01|² {results['h01_squared']:.1f} eV²/Å²")


dynamics = VelocityVerlet(atoms, 0.25 * units.fs)
dynamics.attach(tell, interval=8)
monitor = UncertaintyMonitor(dynamics, logfile=Path(folder) / "excited.jsonl", flagged=Path(folder) / "excited_flagged.xyz")
monitor.criteria = [*monitor.criteria, Criterion("gap_unresolved", 1.0, "halt", consecutive=4)]
dynamics.run(int(steps))
print(monitor.halt_reason or "the gap stayed resolved")
