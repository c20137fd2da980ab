"""Halts and alarms of the default monitor with its "auto" thresholds in Langevin MD of 3BPA at 300 K, where nothing should fire.

Scores of neighbouring steps are alike, so alarms are counted as excursions: stretches above the threshold with less than
GAP fs between them are one. With k independent excursions in t ps the rate is below χ²_{2k+2}(0.95)/(2 t) with a confidence
of 95 % (Poisson; Garwood 1936): 3.0/t for none, 0.15 per ps for 20 ps.
"""

import numpy as np
from ase import units
from ase.md.langevin import Langevin
from common import MODEL, arguments, report, start
from scipy.stats import chi2

from race_calc import RACECalculator, UncertaintyMonitor

GAP = 100.0  # fs; the scores of this molecule forget themselves in 40 to 100 fs
TIMESTEP = 0.5  # fs

given = arguments(__doc__, model=str(MODEL), steps=5000, seeds=8, first_seed=200, temperature=300.0)
calculator = RACECalculator(given.model, device="cpu")
halts, steps, largest, above = 0, 0, {}, {}
for seed in range(given.first_seed, given.first_seed + given.seeds):
    atoms = start(given.temperature, seed)
    atoms.calc = calculator
    rng = np.random.default_rng(1000 + seed)
    dynamics = Langevin(atoms, TIMESTEP * units.fs, temperature_K=given.temperature, friction=0.02 / units.fs, fixcm=False, rng=rng)

    def note(record) -> None:
        for name, value in record.scores.items():
            ratio = value / calculator.thresholds[name]
            largest[name] = max(largest.get(name, 0.0), ratio)
            if not ratio <= 1.0:
                above.setdefault(name, {}).setdefault(seed, []).append(record.step)

    monitor = UncertaintyMonitor(dynamics, flagged=None, callback=note)
    dynamics.run(given.steps)
    steps += dynamics.nsteps
    halts += monitor.halt_reason is not None
    print(f"seed {seed}: {dynamics.nsteps} steps, {atoms.get_temperature():.0f} K, halt: {monitor.halt_reason}", flush=True)


def excursions(steps: list[int]) -> int:
    return 1 + int((np.diff(steps) * TIMESTEP > GAP).sum())


picoseconds = steps * TIMESTEP / 1e3
limit = lambda k: float(chi2.ppf(0.95, 2 * k + 2) / (2 * picoseconds))  # noqa: E731
found = {
    "runs": given.seeds,
    "picoseconds": picoseconds,
    "halts": halts,
    "halts per ps, below (95 %)": limit(halts),
    "criteria": ", ".join(f"{c.action} after {c.consecutive} of {c.name} > {c.threshold:.3g}" for c in monitor.criteria),
}
for name in largest:
    counts = sum(excursions(steps) for steps in above.get(name, {}).values())
    found[f"{name}: largest / threshold"] = float(largest[name])
    found[f"{name}: excursions"] = counts
    found[f"{name}: per ps, below (95 %)"] = limit(counts)
report(given, found)
