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


def relaxed(atoms, name):
    """Cell and positions at rest; tells how many steps the monitor flagged, and whether it ended the relaxation."""
    atoms.calc = calculator
    optimiser = BFGS(FrechetCellFilter(atoms), logfile=None)
    flags = []
    saved = Path(folder) / "silicon_flagged.xyz"
    monitor = UncertaintyMonitor(optimiser, flagged=saved, callback=lambda record: flags.extend(record.decision.acting))
    optimiser.run(fmax=0.005, steps=200)
    seen = f"flagged: {', '.join(sorted({flag.criterion for flag in flags}))}" if flags else "nothing flagged"
    print(f"{name}: {atoms.cell.volume / len(atoms):.2f} Å³ per atom, {seen}" + (f"; {monitor.halt_reason}" if monitor.halt_reason else ""))
    return atoms


crystal = relaxed(bulk("Si", a=5.6), "diamond")
constants = elastic_constants(calculator, crystal).relaxed
for name, (i, j) in {"C11": (0, 0), "C12": (0, 1), "C44": (3, 3)}.items():
    print(f"{name}: {constants.value[i, j] / units.GPa:.0f} ± {1.96 * constants.std[i, j] / units.GPa:.0f} GPa (95 %)")

whole = bulk("Si", a=(4 * crystal.cell.volume) ** (1 / 3), cubic=True) * (2, 2, 2)
hole = whole.copy()
del hole[0]
hole.rattle(0.02, seed=0)
hole.calc = calculator
BFGS(hole, logfile=None).run(fmax=0.01, steps=200)
formed = difference(calculator, whole, hole, times=63 / 64)
print(f"a vacancy takes {formed.value:.2f} ± {1.96 * formed.std:.2f} eV (95 %)")

relaxed(bulk("Si", "sc", a=2.4), "simple cubic")
