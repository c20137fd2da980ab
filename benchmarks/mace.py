"""A step of ten members with covariances and BALD against one MACE model and a committee of ten; 3BPA, two processes.

    python benchmarks/mace.py --setup 1      makes .venv-mace (mace-torch 0.3.16 needs e3nn 0.4.4) and measures
    python benchmarks/mace.py                measures

Both sides are ASE calculators, float32; each round takes one step of every case, one after the other. MACE has random
weights: l_max 3, 2 layers, correlation 3, cutoff 6 Å, 64x0e+64x1o (`--mace-irreps`). Ours: the shipped model at its own
cutoff, and ten random members of 64x0e+64x1o+64x2e, 5 layers, 128 features at 6 Å.
"""

import subprocess
import sys
import tempfile

import numpy as np
import torch
from common import MODEL, arguments, interleaved, report, start, untrained
from mace_environment import MODELS, PYTHON, ROOT, ready

from race_calc import RACECalculator
from race_calc.posterior.checkpoint import save_checkpoint

WORKER = (
    MODELS
    + """
import sys
from ase.io import read

start, irreps, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.set_num_threads(threads)
atoms = read(start)
one, ten = (MACECalculator(models=[make(s, irreps) for s in range(n)], device="cpu", default_dtype="float32") for n in (1, 10))
rng = np.random.default_rng(0)
print("ready", flush=True)
for line in sys.stdin:
    atoms.calc = {"one": one, "ten": ten}[line.strip()]
    atoms.positions += 1e-3 * rng.normal(size=atoms.positions.shape)
    atoms.get_forces()
    print("done", flush=True)
"""
)

given = arguments(__doc__, model=str(MODEL), rounds=20, setup=0, mace_irreps="64x0e+64x1o", large=1)
ready(bool(given.setup))
command = [str(PYTHON), "-W", "ignore", "-c", WORKER, str(MODEL / "start.xyz"), given.mace_irreps, str(torch.get_num_threads())]
peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT)
for line in peer.stdout:  # the package prints notices first
    if line.strip() == "ready":
        break
else:
    sys.exit("the MACE process ended before it was ready; see its message above")


def mace(which: str) -> None:
    peer.stdin.write(which + "\n")
    if peer.stdout.readline().strip() != "done":
        sys.exit("the MACE process ended; see its message above")


atoms, rng = start(300.0, 0), np.random.default_rng(0)


def ours(calculator: RACECalculator) -> None:
    atoms.calc = calculator
    atoms.positions += 1e-3 * rng.normal(size=atoms.positions.shape)
    atoms.get_forces()


with tempfile.TemporaryDirectory() as folder:
    cases = {"shipped": RACECalculator(given.model, device="cpu", dtype="float32")}
    if given.large:
        shape = dict(hidden_irreps="64x0e+64x1o+64x2e", l_max=2, layers=5, features_dim=128, radial_hidden=(64, 64), cutoff=6.0)
        save_checkpoint(folder, untrained((1, 6, 7, 8), 10, 21.0, **shape), "random weights, for timing\n")
        cases["large"] = RACECalculator(folder, device="cpu", dtype="float32")
    steps = {name: (lambda c=calculator: ours(c)) for name, calculator in cases.items()}
    times = interleaved({"one MACE": lambda: mace("one"), **steps, "ten MACE": lambda: mace("ten")}, given.rounds)
peer.stdin.close()
peer.wait()
results = {"threads": torch.get_num_threads(), "MACE": given.mace_irreps}
results |= {f"{name}, ms": value for name, value in times.items()}
for name in cases:
    results[f"ten members, {name} / one MACE model"] = times[name] / times["one MACE"]
    results[f"ten members, {name} / ten MACE models"] = times[name] / times["ten MACE"]
report(given, results)
