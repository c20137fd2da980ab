"""A geometry optimisation that flags structures which the model does not know.

The start is 3BPA with its benzyl group turned into the NH2 group, which no training structure has.

    python examples/relax_and_flag.py [MODEL] [FOLDER] [STEPS]
"""

import sys
from pathlib import Path

from ase.io import read
from ase.optimize import BFGS

from race_calc import Criterion, RACECalculator, UncertaintyMonitor

SHIPPED = Path(__file__).resolve().parents[1] / "models" / "3bpa-de"
model, folder, steps = sys.argv[1:] + [SHIPPED, ".", 100][len(sys.argv) - 1 :]
folder = Path(folder)

atoms = read(SHIPPED / "start.xyz")
atoms.set_dihedral(0, 1, 5, 13, 135, indices=range(13, 27))  # C-C-O-CH2; atoms 13 to 26 are the benzyl group
atoms.calc = RACECalculator(model)

opt = BFGS(atoms, logfile=str(folder / "relax.log"))
flags = []  # a violation for each flagged step
monitor = UncertaintyMonitor(
    opt,
    [Criterion("forces_uncertainty_max_epistemic", action="flag")],
    flagged=folder / "relax_flagged.xyz",
    callback=lambda record: flags.extend(record.decision.violations),
)
converged = opt.run(fmax=0.05, steps=int(steps))

for flag in flags:
    print(f"step {flag.step}: {flag.criterion} {flag.value:.3f} > {flag.threshold:.3f} at atom {flag.atom_index} ({flag.element})")
print(f"{len(flags)} of {opt.nsteps + 1} structures were flagged; they are saved in {monitor.flagged}")
print(f"{'converged' if converged else 'not converged'} after {opt.nsteps} steps: {atoms.get_potential_energy():.2f} eV")
