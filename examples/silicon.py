"""A crystal with error bars: elastic constants, a vacancy, and relaxations of a known and of an unknown phase.

python examples/silicon.py [MODEL] [FOLDER]
"""

import sys
from pathlib import Path

from ase import units
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from race_calc import RACECalculator, UncertaintyMonitor, difference, elastic_constants

SHIPPED = Path(__file__).resolve().parents[1] / "models" / "silicon"
model, folder = sys.argv[1:] + [SHIPPED, "."][len(sys.argv) - 1 :]
calculator = RACECalculator(model, members=True)

phases = {"diamond": bulk("Si", a=5.6), "simple cubic": bulk("Si", "sc", a=2.4)}
for name, atoms in phases.items():
    atoms.calc = calculator
    optimiser, flags = BFGS(FrechetCellFilter(atoms), logfile=None), set()
    watch = {"flagged": Path(folder) / "silicon_flagged.xyz", "callback": lambda record: flags.update(record.decision.acting)}
    UncertaintyMonitor(optimiser, **watch)
    optimiser.run(fmax=0.005, steps=100)
    above = ", ".join(sorted({flag.criterion for flag in flags})) or "nothing"
    print(f"{name}: {atoms.cell.volume / len(atoms):.2f} Å³ per atom after {optimiser.nsteps} steps; flagged: {above}")

crystal = phases["diamond"]
constants = elastic_constants(calculator, crystal).relaxed
for name, (i, j) in {"C11": (0, 0), "C12": (0, 1), "C44": (3, 3)}.items():
    print(f"{name}: {constants.value[i, j] / units.GPa:.1f} ± {1.96 * constants.std[i, j] / units.GPa:.1f} GPa (95 %)")

whole = bulk("Si", a=(4 * crystal.cell.volume) ** (1 / 3), cubic=True) * (2, 2, 2)
hole = whole[1:]
hole.calc = calculator
BFGS(hole, logfile=None).run(fmax=0.02, steps=100)
formed = difference(calculator, whole, hole, times=63 / 64)
print(f"a vacancy takes {formed.value:.2f} ± {1.96 * formed.std:.2f} eV (95 %)")
