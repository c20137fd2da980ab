"""A hundred runs into regions that a model does not know: is each flagged before its forces are wrong? GFN2-xTB is the truth.

    python benchmarks/active_learning.py --data FOLDER_WITH_3BPA --runs runs/active --counts 0     makes the model and its data
    python benchmarks/bad_regions.py --runs runs/active [--count 100]

3BPA, four members that know 450 frames at 300 K, thresholds of the 50 validation frames. Half of the runs are heated from 300 to 2000 K in
1 ps, half are pulled apart at a bond between heavy atoms, by 0 to 10 eV/Å in 1 ps; each begins at another test frame at 300 K and has 0.5 fs a
step. Bad is the first step whose force RMSE is more than five times that on the test frames at 300 K, searched in every fifth step and then
between. Flagged: the default monitor flags (or halts at) that step or an earlier one. Halts are told apart. Needs the extra xtb.
"""

from contextlib import suppress
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.constraints import ExternalForce
from ase.io import read
from ase.md.langevin import Langevin
from common import arguments, report

from race_calc import RACECalculator, UncertaintyMonitor
from race_calc.data.dataset import read_dataset
from race_calc.evaluate.errors import evaluate_dataset
from race_calc.label.methods import Method
from race_calc.md.record import MonitorRecord
from race_calc.model.hardware import keep_freed_memory

STEPS, TIMESTEP, FRICTION = 2000, 0.5, 0.02  # fs, 1/fs
HOT = 2000.0  # K
PULL = 10.0  # eV/Å at the end; a C-C bond holds about 6
BAD = 5.0  # times the RMSE on known structures
STRIDE = 5  # steps


class Pull(ExternalForce):
    """ASE's default takes the momenta of a constraint for forces and pulls them, too."""

    def adjust_momenta(self, atoms: Atoms, momenta: np.ndarray) -> None:
        pass


def run(number: int, start: Atoms, potential: RACECalculator) -> tuple[list[np.ndarray], int | None, int | None]:
    """Positions of every step, and the steps of the first flag and of the first halt; it goes on after both."""
    atoms, random = start.copy(), np.random.default_rng(number)
    atoms.set_momenta(np.sqrt(atoms.get_masses() * units.kB * 300)[:, None] * random.standard_normal((len(atoms), 3)))
    pull = Pull(*_bond(atoms, random), 0.0)
    if number % 2:
        atoms.set_constraint(pull)
    atoms.calc = potential
    dynamics = Langevin(atoms, TIMESTEP * units.fs, temperature_K=300, friction=FRICTION / units.fs, fixcm=False, rng=random)
    first: dict[str, int] = {}
    path: list[np.ndarray] = []

    def seen(record: MonitorRecord) -> None:
        path.append(atoms.positions.copy())
        for violation in record.decision.acting:
            first.setdefault("flag", record.step)
            first.setdefault(str(violation.action), record.step)
        monitor.halt_reason = None  # it goes on, to see when it becomes bad

    monitor = UncertaintyMonitor(dynamics, flagged=None, callback=seen)

    def harder() -> None:
        if number % 2:
            pull.external_force = PULL * dynamics.nsteps / STEPS
        else:
            dynamics.set_temperature(temperature_K=300 + (HOT - 300) * dynamics.nsteps / STEPS)

    dynamics.attach(harder)
    with suppress(ValueError):  # two atoms on one place: the end of this run
        dynamics.run(STEPS)
    return path, first.get("flag"), first.get("halt")


def _bond(atoms: Atoms, random: np.random.Generator) -> tuple[int, int]:
    """Two heavy atoms that are bonded."""
    heavy = np.outer(atoms.numbers > 1, atoms.numbers > 1)
    one, other = np.nonzero(np.triu((atoms.get_all_distances() < 1.65) & heavy, 1))
    k = random.integers(len(one))
    return int(one[k]), int(other[k])


class Truth:
    """Force RMSE (eV/Å) of the model along a run."""

    def __init__(self, like: Atoms, potential: RACECalculator):
        self.atoms, self.potential = like.copy(), potential
        self.atoms.set_constraint()
        self.atoms.calc = Method("gfn2-xtb").calculator()

    def error(self, positions: np.ndarray) -> float:
        self.atoms.positions = positions
        try:
            forces = self.atoms.get_forces()
        except Exception:  # no convergence: nobody would call such a structure known
            self.atoms.calc = Method("gfn2-xtb").calculator()
            return float("inf")
        model = self.atoms.copy()
        return float(np.sqrt(np.mean((self.potential.get_property("forces", model) - forces) ** 2)))

    def first_bad(self, path: list[np.ndarray], limit: float) -> int | None:
        for k in range(0, len(path), STRIDE):
            if self.error(path[k]) > limit:
                return next(j for j in range(max(k - STRIDE + 1, 0), k + 1) if j == k or self.error(path[j]) > limit)
        return None


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else float("nan")


if __name__ == "__main__":
    given = arguments(__doc__, runs="runs/active", count=100)
    keep_freed_memory()
    runs = Path(given.runs)
    potential = RACECalculator(runs / "start", "cpu")
    known = evaluate_dataset(potential, read_dataset(runs / "data" / "test-300.xyz")).forces.rmse
    starts = read(runs / "data" / "test-300.xyz", ":")
    truth = Truth(starts[0], potential)
    outcome: dict[str, list] = {"heated": [], "pulled": []}
    for number in range(given.count):
        path, flag, halt = run(number, starts[number * len(starts) // given.count], potential)
        bad = truth.first_bad(path, BAD * known)
        at_flag = None if flag is None else truth.error(path[flag]) / known
        outcome["pulled" if number % 2 else "heated"].append((bad, flag, halt, at_flag))
        print(f"{number}: bad {bad}, flag {flag}, halt {halt}, error at the flag over the known {at_flag}", flush=True)
    told: dict[str, object] = {"force RMSE on known structures (meV/Å)": 1e3 * known}
    for kind, rows in outcome.items():
        wrong = [row for row in rows if row[0] is not None]
        told[f"{kind}: runs that become bad"] = f"{len(wrong)} of {len(rows)}"
        told[f"{kind}: flagged at or before that"] = sum(flag is not None and flag <= bad for bad, flag, *_ in wrong)
        told[f"{kind}: halted at or before that"] = sum(halt is not None and halt <= bad for bad, _, halt, _ in wrong)
        told[f"{kind}: steps from the flag to bad (median)"] = _median([bad - flag for bad, flag, *_ in wrong if flag is not None])
        told[f"{kind}: error at the first flag over the known (median)"] = _median([row[3] for row in rows if row[3] is not None])
    report(given, told)
