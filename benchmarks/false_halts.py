"""Halts of the default monitor with its "auto" thresholds in Langevin MD of 3BPA at 300 K, where nothing should fire."""

import numpy as np
from ase import units
from ase.md.langevin import Langevin
from common import MODEL, arguments, report, start

from race_calc import RACECalculator, UncertaintyMonitor

given = arguments(__doc__, model=str(MODEL), steps=2000, seeds=3)
calculator = RACECalculator(given.model, device="cpu")
halts, flags, largest = 0, 0, {}
for seed in range(given.seeds):
    atoms = start(300.0, seed)
    atoms.calc = calculator
    rng = np.random.default_rng(1000 + seed)
    dynamics = Langevin(atoms, 0.5 * units.fs, temperature_K=300, friction=0.02 / units.fs, fixcm=False, rng=rng)

    def note(record) -> None:
        global flags
        flags += record.decision.action == "flag"
        for name, value in record.scores.items():
            largest[name] = max(largest.get(name, 0.0), value / calculator.thresholds[name])

    monitor = UncertaintyMonitor(dynamics, flagged=None, callback=note)
    dynamics.run(given.steps)
    halts += monitor.halt_reason is not None
    print(f"seed {seed}: {dynamics.nsteps} steps, {atoms.get_temperature():.0f} K, halt: {monitor.halt_reason}", flush=True)
report(
    given,
    {"runs": given.seeds, "steps each": given.steps, "halts": halts, "flagged steps": flags}
    | {f"largest {name} / threshold": float(value) for name, value in largest.items()},
)
