"""What an excursion of the monitor's score is worth: the forces of an independent model in flagged and in other steps of MD.

    python benchmarks/excursions.py --other runs/posteriors/mse [--seed 102] [--steps 2500]

Langevin MD of 3BPA at 300 K with `models/3bpa-de`, every tenth step; the other model was trained on the same data with another
loss, so its difference bounds no error, but both can only agree by chance where neither knows.
"""

import numpy as np
from ase import units
from ase.md.langevin import Langevin
from common import MODEL, arguments, report, start

from race_calc import RACECalculator
from race_calc.uncertainty.scores import score

SCORE = "forces_uncertainty_rms_epistemic"

given = arguments(__doc__, model=str(MODEL), other="runs/posteriors/mse", seed=102, steps=2500)
calculator, other = RACECalculator(given.model, device="cpu"), RACECalculator(given.other, device="cpu", calibrated=False)
atoms = start(300.0, given.seed)
atoms.calc = calculator
rng = np.random.default_rng(1000 + given.seed)
dynamics = Langevin(atoms, 0.5 * units.fs, temperature_K=300.0, friction=0.02 / units.fs, fixcm=False, rng=rng)
scores, differences = [], []


def note() -> None:
    prediction = calculator.prediction(atoms)
    scores.append(float(score(prediction, SCORE)[0][0]))
    difference = other.get_forces(atoms) - prediction.forces
    differences.append(1e3 * float(np.sqrt((difference**2).mean())))


dynamics.attach(note, interval=10)
dynamics.run(given.steps)
scores, differences = np.array(scores), np.array(differences)
flagged = scores > calculator.thresholds[SCORE]
found = {"steps looked at": len(scores), "flagged": int(flagged.sum())}
for name, chosen in (("flagged", flagged), ("other", ~flagged)):
    if chosen.any():
        found |= {
            f"{name}: median difference, meV/Å": float(np.median(differences[chosen])),
            f"{name}: largest difference, meV/Å": float(differences[chosen].max()),
        }
found["correlation of log score and log difference"] = float(np.corrcoef(np.log(scores), np.log(differences))[0, 1])
report(given, found)
