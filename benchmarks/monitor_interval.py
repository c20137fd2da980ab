"""What a monitor that checks seldom saves: MD steps of a model with interval 1, 2, 5, 10, and without a monitor and member forces.

    python benchmarks/monitor_interval.py [--model models/3bpa-llpr] [--threads 2] [--steps 200] [--rounds 5]

Every row makes the same steps (velocity Verlet from the structure shipped with 3bpa-de), all rows in turn in each round; medians over the
rounds, and by how much the end differs from that of interval 1.
"""

import time

import numpy as np
import torch
from ase import units
from ase.io import read
from ase.md.verlet import VelocityVerlet
from common import arguments

from race_calc import RACECalculator, UncertaintyMonitor

START = "models/3bpa-de/start.xyz"


def run(calculator: RACECalculator, interval: int | None, steps: int) -> tuple[float, np.ndarray]:
    """Seconds of a step, and the positions at the end."""
    atoms = read(START)
    atoms.calc = calculator
    calculator.reset()
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    monitor = None if interval is None else UncertaintyMonitor(dynamics, flagged=None, interval=interval)
    atoms.get_forces()
    begin = time.perf_counter()
    dynamics.run(steps)
    seconds = (time.perf_counter() - begin) / steps
    if monitor is not None:
        if monitor.halt_reason is not None:
            raise SystemExit(f"the run halted ({monitor.halt_reason}): the rows would differ in their steps")
        monitor.detach()
    return seconds, atoms.positions


if __name__ == "__main__":
    given = arguments(__doc__, model="models/3bpa-llpr", threads=2, steps=200, rounds=5)
    torch.set_num_threads(given.threads)
    whole, means = RACECalculator(given.model, "cpu"), RACECalculator(given.model, "cpu", forces_epistemic=False)
    rows = {f"interval {k}": (whole, k) for k in (1, 2, 5, 10)} | {"no monitor, no member forces": (means, None)}
    times: dict[str, list[float]] = {name: [] for name in rows}
    ends: dict[str, np.ndarray] = {}
    for _ in range(given.rounds):
        for name, (calculator, interval) in rows.items():
            seconds, ends[name] = run(calculator, interval, given.steps)
            times[name].append(seconds)
    first = np.median(times["interval 1"])
    print("| | ms a step | over interval 1 | positions differ by at most, Å |\n|---|---|---|---|")
    for name in rows:
        away = np.abs(ends[name] - ends["interval 1"]).max()
        print(f"| {name} | {1e3 * np.median(times[name]):.2f} | {np.median(times[name]) / first:.2f} | {away:.0e} |")
