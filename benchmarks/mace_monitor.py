"""A MACE committee of two under the monitor, as the README shows it, in one environment with mace-torch; 3BPA.

    python benchmarks/mace_monitor.py --setup 1      makes .venv-mace (this package and mace-torch 0.3.16) and measures
    python benchmarks/mace_monitor.py                measures

Both ways to watch: one MACECalculator with two models (`from_results`), and a `Committee` of two. The weights are random, so the
members disagree wildly: a threshold far below that must halt, one far above must not. Then the time of a step without and with
the monitor, one after the other, and whether a model of ours gives the energy beside MACE that it gives alone.
"""

import json
import subprocess
import sys

from common import MODEL, arguments, report, start
from mace_environment import MODELS, PYTHON, ROOT, ready

from race_calc import RACECalculator

WORKER = (
    MODELS
    + """
import json, sys, time
from ase import units
from ase.io import read
from ase.md.verlet import VelocityVerlet
from race_calc import Committee, Criterion, RACECalculator, UncertaintyMonitor, from_results

model, rounds = sys.argv[1], int(sys.argv[2])

def mace(*seeds):
    return MACECalculator(models=[make(seed, "32x0e+32x1o") for seed in seeds], device="cpu", default_dtype="float32")

def run(calculator, steps, threshold=None):
    atoms = read(model + "/start.xyz")
    atoms.calc = calculator
    dynamics = VelocityVerlet(atoms, 0.1 * units.fs)
    monitor = None
    if threshold is not None:
        monitor = UncertaintyMonitor(dynamics, [Criterion("forces_uncertainty_rms_epistemic", threshold)], flagged=None)
    atoms.get_forces()
    began = time.perf_counter()
    dynamics.run(steps)
    return monitor, dynamics.nsteps, 1e3 * (time.perf_counter() - began) / max(dynamics.nsteps, 1)

found = {}
for name, watched, bare in (("from_results", from_results(mace(0, 1)), mace(0, 1)), ("Committee", Committee([mace(0), mace(1)]), None)):
    monitor, steps, _ = run(watched, 5, 1e-6)
    found[name + ": halts at step"] = steps
    monitor, steps, _ = run(watched, 5, 1e6)
    found[name + ": goes on for steps"] = steps if monitor.halt_reason is None else -1
    if bare is not None:
        times = [(run(bare, 5)[2], run(watched, 5, 1e6)[2]) for _ in range(rounds)]
        plain, monitored = (sorted(column)[rounds // 2] for column in zip(*times))
        found |= {"a step of two MACE models, ms": plain, "the same with the monitor, ms": monitored, "monitored / bare": monitored / plain}
atoms = read(model + "/start.xyz")
atoms.calc = RACECalculator(model, device="cpu")
found["energy of our model beside MACE, eV"] = atoms.get_potential_energy()
print("found " + json.dumps(found))
"""
)

given = arguments(__doc__, setup=0, rounds=7)
ready(bool(given.setup))
done = subprocess.run([str(PYTHON), "-W", "ignore", "-c", WORKER, str(MODEL), str(given.rounds)], capture_output=True, text=True, cwd=ROOT)
lines = [line.removeprefix("found ") for line in done.stdout.splitlines() if line.startswith("found ")]
if not lines:
    sys.exit(done.stdout + done.stderr)
atoms = start(300.0, 0)
atoms.calc = RACECalculator(MODEL, device="cpu")
results = json.loads(lines[0])
results["difference to our model alone, eV"] = results["energy of our model beside MACE, eV"] - atoms.get_potential_energy()
report(given, results)
