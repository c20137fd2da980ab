"""Does the monitor tell a right minimum from a wrong one? Relaxations of a molecule from a hundred bad starts, GFN2-xTB as the truth.

    python benchmarks/shifts.py --molecule CH3CH2OH --out runs/shifts       makes the model and its data, GFN2-xTB at 300 K
    python benchmarks/relaxations.py --run runs/shifts/CH3CH2OH [--starts 100]

Starts are the relaxed molecule with a bond stretched or compressed, a dihedral turned, the whole flattened or shrunk, or rattled (seed 0).
Each is relaxed with the model (BFGS, 0.01 eV/Å, 300 steps), watched by what the default monitor flags (it would halt most of them at the
start, which is strange), calibrated with the 50 validation frames. A minimum is right where GFN2-xTB, going on from it, falls by less than
WRONG eV and moves no atom by more than MOVED Å, and wrong elsewhere; a run that does not converge, or is refused, has failed. Flagged: a
criterion is above its threshold in the last structure, or that is refused. Also told: how many starts are flagged. Needs the extra `xtb`.
"""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import minimize_rotation_and_translation, molecule
from ase.optimize import BFGS
from common import arguments, report
from scans import bond, bonded, dihedral, flattened, turned

from race_calc import RACECalculator, UncertaintyMonitor
from race_calc.data.dataset import read_dataset
from race_calc.evaluate.calibrate import calibrate
from race_calc.label.methods import Method
from race_calc.md.record import MonitorRecord

WRONG, MOVED = 0.02, 0.15  # eV, Å
STEPS, FORCE = 300, 0.01


def starts(atoms: Atoms, count: int) -> list[tuple[str, Atoms]]:
    """Kind and structure, the kinds in turn."""
    rng, four = np.random.default_rng(0), dihedral(atoms)
    pairs = [(int(i), int(j)) for i, j in np.argwhere(np.triu(bonded(atoms)))]
    found = []
    for k in range(count):
        kind = ("stretched", "compressed", "twisted", "flattened", "shrunk", "rattled")[k % 6]
        i, j = pairs[rng.integers(len(pairs))]
        length = atoms.get_distance(i, j)
        one = atoms.copy()
        if kind == "stretched":
            one = bond(atoms, i, j, length * rng.uniform(1.2, 2.2))
        elif kind == "compressed":
            one = bond(atoms, i, j, length * rng.uniform(0.6, 0.9))
        elif kind == "twisted" and four is not None:
            one = turned(atoms, four, rng.uniform(-180, 180))
        elif kind == "flattened":
            one = flattened(atoms, rng.uniform(0.0, 0.8))
        elif kind == "shrunk":
            one.positions *= rng.uniform(0.75, 0.95)
        one.positions += rng.normal(scale=rng.uniform(0.15, 0.4) if kind == "rattled" else 0.03, size=one.positions.shape)
        found.append((kind, one))
    return found


def relaxed(start: Atoms, calculator: RACECalculator) -> tuple[Atoms, bool, bool, bool]:
    """The last structure, whether it is a minimum of the model, and whether the monitor flags it, and the first one."""
    atoms = start.copy()
    atoms.calc = calculator
    try:
        dynamics = BFGS(atoms, logfile=None)
        seen: list[MonitorRecord] = []
        monitor = UncertaintyMonitor(dynamics, flagged=None, callback=seen.append)
        monitor.criteria = [criterion for criterion in monitor.criteria if criterion.action == "flag"]
        converged = bool(dynamics.run(fmax=FORCE, steps=STEPS))
    except ValueError:  # refused: overlapping atoms
        return atoms, False, True, True
    exploded = monitor.halt_reason is not None
    return atoms, converged and not exploded, *(record.decision.action is not None for record in (seen[-1], seen[0]))


def right(found: Atoms, truth) -> bool:
    """Whether it is a minimum of the truth."""
    atoms = found.copy()
    atoms.calc = truth
    try:
        before = atoms.get_potential_energy()
        converged = BFGS(atoms, logfile=None).run(fmax=FORCE, steps=STEPS)
        fallen = before - atoms.get_potential_energy()
    except Exception:  # no convergence of the SCF
        return False
    minimize_rotation_and_translation(found, atoms)
    moved = np.linalg.norm(atoms.positions - found.positions, axis=1).max()
    return bool(converged and fallen < WRONG and moved < MOVED)


if __name__ == "__main__":
    given = arguments(__doc__, run="runs/shifts/CH3CH2OH", starts=100)
    run, truth = Path(given.run), Method("gfn2-xtb").calculator()
    atoms = molecule(run.name)
    atoms.calc = truth
    BFGS(atoms, logfile=None).run(fmax=1e-3, steps=500)
    atoms.calc = None
    calculator = RACECalculator(run / "model", "cpu", calibrated=False)
    calculator.calibration, _ = calibrate(calculator, read_dataset(run / "train.xyz", "450:"))
    rows = []
    for kind, start in starts(atoms, given.starts):
        found, converged, flagged, first = relaxed(start, calculator)
        found.calc = None
        rows.append((kind, converged and right(found, truth), flagged, first))
    results: dict[str, object] = {}
    for kind in [*dict.fromkeys(row[0] for row in rows), "all"]:
        own = [row[1:] for row in rows if kind in (row[0], "all")]
        wrong, fine = ([flagged for good, flagged, _ in own if good == which] for which in (False, True))
        results[f"{kind}: starts, of these flagged"] = f"{len(own)}, {sum(first for _, _, first in own)}"
        results[f"{kind}: wrong or failed, of these flagged"] = f"{len(wrong)}, {sum(wrong)}"
        results[f"{kind}: right, of these flagged"] = f"{len(fine)}, {sum(fine)}"
    report(given, results)
