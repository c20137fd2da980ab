"""Time per atom and peak memory of one step for periodic silicon, 64 to 4,096 atoms; each size in a process of its own.

The times of all sizes are taken in rounds, two steps of each size after the other, the second of which counts.
"""

import json
import resource
import subprocess
import sys
import time

import torch
from ase.build import bulk
from common import arguments, report, untrained

from race_calc.data.graph import from_atoms
from race_calc.model.hardware import keep_freed_memory
from race_calc.posterior.load import load_stack

SIZES = {64: 2, 216: 3, 512: 4, 1000: 5, 4096: 8}


def serve(given) -> None:
    """Make the model and the crystal, then one timed step per line of input; the first line of output is ready."""
    keep_freed_memory()
    shape = dict(hidden_irreps="32x0e+32x1o+16x2e", features_dim=32, radial_hidden=(32, 32), cutoff=given.cutoff)
    stack = load_stack(untrained((14,), given.members, 28.0, **shape), getattr(torch, given.dtype), torch.device("cpu"))
    atoms = bulk("Si", cubic=True) * SIZES[given.serve]
    atoms.rattle(0.05, seed=0)
    graph = from_atoms(atoms, given.cutoff)
    print(graph.edge_index.shape[1], flush=True)
    for _ in sys.stdin:
        stack.predict(from_atoms(atoms, given.cutoff))  # as in MD another step has gone before: caches and threads are warm
        began = time.perf_counter()
        stack.predict(from_atoms(atoms, given.cutoff))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps([time.perf_counter() - began, peak]), flush=True)


given = arguments(__doc__, rounds=5, members=10, dtype="float64", cutoff=5.0, largest=4096, serve=0)
if given.serve:
    serve(given)
    sys.exit()
sizes = [n for n in SIZES if n <= given.largest]
workers, edges, steps = {}, {}, {n: [] for n in sizes}
for n in sizes:
    command = [sys.executable, __file__, "--serve", str(n), *(f"--{k}={getattr(given, k)}" for k in ("members", "dtype", "cutoff"))]
    workers[n] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    edges[n] = int(workers[n].stdout.readline())
for _ in range(given.rounds + 1):
    for n, worker in workers.items():
        worker.stdin.write("step\n")
        steps[n].append(json.loads(worker.stdout.readline()))
for worker in workers.values():
    worker.stdin.close()
    worker.wait()
results = {"threads": torch.get_num_threads(), "members": given.members}
per_atom = {}
for n, values in steps.items():
    seconds = sorted(value[0] for value in values[1:])[len(values[1:]) // 2]
    per_atom[n] = 1e6 * seconds / n
    results[f"{n} atoms, {edges[n]} edges: step, ms"] = 1e3 * seconds
    results[f"{n} atoms: µs per atom"] = per_atom[n]
    results[f"{n} atoms: peak memory, GiB"] = values[-1][1]
results["largest / smallest time per atom"] = max(per_atom.values()) / min(per_atom.values())
report(given, results)
