"""Molecular dynamics that ends when the model no longer knows the forces.

python examples/monitored_md.py [MODEL] [FOLDER] [STEPS]
"""

import sys
from pathlib import Path

from ase import units
from ase.io import read
from ase.md.langevin import Langevin

from race_calc import Criterion, RACECalculator, UncertaintyMonitor

SHIPPED = Path(__file__).resolve().parents[1] / "models" / "3bpa-de"
model, folder, steps = sys.argv[1:] + [SHIPPED, ".", 1000][len(sys.argv) - 1 :]
folder = Path(folder)

atoms = read(SHIPPED / "start.xyz")
atoms.calc = RACECalculator(model)
# The atoms start at rest; the thermostat brings them to 600 K within about 0.2 ps.
dyn = Langevin(atoms, 0.5 * units.fs, temperature_K=600, friction=0.02 / units.fs, fixcm=False, trajectory=str(folder / "md.traj"))

# Save a frame in which the members disagree about the force on some atom by more than the threshold stored with the model
# ("auto"), and end the run when they disagree about the whole structure at ten steps in a row (at 300 K, where single
# excursions are no reason to stop, the default of UncertaintyMonitor waits for 200).
criteria = [
    Criterion("forces_uncertainty_max_epistemic", action="flag"),
    Criterion("forces_uncertainty_rms_epistemic", action="halt", consecutive=10),
]
monitor = UncertaintyMonitor(dyn, criteria, logfile=folder / "md.jsonl", flagged=folder / "md_flagged.xyz")
dyn.run(int(steps))

print(f"{dyn.nsteps} steps, {atoms.get_temperature():.0f} K")
print(monitor.halt_reason or "the monitor did not end the run")
