"""A hundred runs into regions that a model does not know: is each flagged before its forces are wrong? GFN2-xTB is the truth.

    python benchmarks/active_learning.py --data FOLDER_WITH_3BPA --runs runs/active --counts 0     makes the model and its data
    python benchmarks/bad_regions.py --runs runs/active [--count 100]

3BPA, four members that know 450 frames at 300 K, thresholds of the 50 validation frames. Half of the runs are heated from 300 to 2000 K in
1 ps, half are pulled apart at a bond between heavy atoms, by 0 to 10 eV/Å in 1 ps; each begins at another test frame at 300 K and has
0.5 fs a step. Bad is the first step whose force RMSE is more than five times that on the test frames at 300 K, looked for in every fifth
step and then between; there the run ends. Flagged: the default monitor flags (or halts at) that step or an earlier one. As a known
structure is flagged now and then, flags in the 25 fs before it, and the share of all steps with one, are told too; and halts. Needs the
extra xtb.
"""

from contextlib import suppress
from dataclasses import dataclass
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
NEAR = 25  # fs: two vibrations of a C-H bond


class Pull(ExternalForce):
    """ASE's default takes the momenta of a constraint for forces and pulls them, too."""

    def adjust_momenta(self, atoms: Atoms, momenta: np.ndarray) -> None:
        pass


@dataclass(frozen=True)
class Outcome:
    """Steps of the first bad forces, first and last flag up to them, first halt, None where there was none; steps with a flag."""

    bad: int | None
    flag: int | None
    last: int | None
    halt: int | None
    flagged: int


def run(number: int, start: Atoms, potential: RACECalculator, known: float) -> Outcome:
    """One run, to its first bad forces; a halt does not end it."""
    atoms, random = start.copy(), np.random.default_rng(number)
    atoms.set_momenta(np.sqrt(atoms.get_masses() * units.kB * 300)[:, None] * random.standard_normal((len(atoms), 3)))
    pull, truth = Pull(*_bond(atoms, random), 0.0), Truth(start, potential)
    if number % 2:
        atoms.set_constraint(pull)
    atoms.calc = potential
    dynamics = Langevin(atoms, TIMESTEP * units.fs, temperature_K=300, friction=FRICTION / units.fs, fixcm=False, rng=random)
    halts, flags = list[int](), list[int]()
    path: list[np.ndarray] = []

    def seen(record: MonitorRecord) -> None:
        path.append(atoms.positions.copy())
        flags.extend([record.step] if record.decision.acting else [])
        halts.extend([record.step] if record.decision.halting else [])
        monitor.halt_reason = None  # it goes on, to see when it becomes bad
        if record.step % STRIDE == 0 and truth.error(path[-1]) > BAD * known:
            dynamics.max_steps = 0

    monitor = UncertaintyMonitor(dynamics, flagged=None, callback=seen)

    def harder() -> None:
        if number % 2:
            pull.external_force = PULL * dynamics.nsteps / STEPS
        else:
            dynamics.set_temperature(temperature_K=300 + (HOT - 300) * dynamics.nsteps / STEPS)

    dynamics.attach(harder)
    with suppress(ValueError):  # two atoms on one place: the end of this run
        dynamics.run(STEPS)
    last = range(max(len(path) - STRIDE, 0), len(path))
    bad = next((k for k in last if truth.error(path[k]) > BAD * known), None)
    before = [step for step in flags if bad is None or step <= bad]
    return Outcome(bad, min(before, default=None), max(before, default=None), min(halts, default=None), len(before))


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


if __name__ == "__main__":
    given = arguments(__doc__, runs="runs/active", count=100)
    keep_freed_memory()
    runs = Path(given.runs)
    potential = RACECalculator(runs / "start", "cpu")
    known = evaluate_dataset(potential, read_dataset(runs / "data" / "test-300.xyz")).forces.rmse
    starts = read(runs / "data" / "test-300.xyz", ":")
    outcomes: dict[str, list[Outcome]] = {"heated": [], "pulled": []}
    for number in range(given.count):
        found = run(number, starts[number * len(starts) // given.count], potential, known)
        outcomes["pulled" if number % 2 else "heated"].append(found)
        print(number, found, flush=True)
    told: dict[str, object] = {"force RMSE on known structures (meV/Å)": 1e3 * known}
    for kind, rows in outcomes.items():
        pairs = [(row, row.bad) for row in rows if row.bad is not None]
        told[f"{kind}: runs that become bad"] = f"{len(pairs)} of {len(rows)}"
        told[f"{kind}: flagged at or before that"] = sum(row.flag is not None for row, _ in pairs)
        told[f"{kind}: flagged in the {NEAR} fs before it"] = sum(
            row.last is not None and (bad - row.last) * TIMESTEP <= NEAR for row, bad in pairs
        )
        told[f"{kind}: halted at or before that"] = sum(row.halt is not None and row.halt <= bad for row, bad in pairs)
        told[f"{kind}: share of the steps before it that are flagged"] = sum(r.flagged for r, _ in pairs) / max(sum(b for _, b in pairs), 1)
    report(given, told)
