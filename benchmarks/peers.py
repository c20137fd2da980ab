"""A step of our models against MACE (one model, a committee of ten) and apax (one model, a shallow ensemble of ten); 3BPA.

    python benchmarks/peers.py --setup 1      makes .venv-mace and .venv-apax, whose packages cannot live in ours, and measures
    python benchmarks/peers.py [--rounds 20]  measures

All are ASE calculators, each package in a process of its own; each round takes one step of every case, one after the other. Peers have
random weights. MACE: l_max 3, 2 layers, correlation 3, 6 Å, 64x0e+64x1o, float32. apax: its defaults at 6 Å, GMNN and the equivariant one,
float32; the shallow ensembles give the forces of every member. Ours give covariances and BALD: the shipped models, ten random members of
the architecture that was shipped on 2026-11-24 (correlation 1), and ten of 64x0e+64x1o+64x2e, 5 layers, 128 features at 6 Å.
"""

import subprocess
import sys

import apax_environment
import mace_environment
import numpy as np
import torch
from common import MODEL, arguments, calculator_of, interleaved, report, start, untrained

from race_calc import RACECalculator

ANSWER = """
import sys
from ase.io import read

atoms, rng = read(sys.argv[1]), np.random.default_rng(0)
print("ready", flush=True)
for line in sys.stdin:
    atoms.calc = models[line.strip()]
    atoms.positions += 1e-3 * rng.normal(size=atoms.positions.shape)
    atoms.get_forces()
    print("done", flush=True)
"""
MACE = """
torch.set_num_threads(int(sys.argv[2]))
models = {
    name: MACECalculator(models=[make(s, "64x0e+64x1o") for s in range(n)], device="cpu", default_dtype="float32")
    for name, n in (("one MACE", 1), ("ten MACE", 10))
}
"""
APAX = """
models = {
    "apax GMNN": make("gmnn"), "apax GMNN, shallow ten": make("gmnn", 10),
    "apax equivariant": make("equiv-mp"), "apax equivariant, shallow ten": make("equiv-mp", 10),
}
"""
BEFORE = {"hidden_irreps": "32x0e+32x1o+16x2e", "l_max": 2, "layers": 3, "features_dim": 32, "radial_hidden": (32, 32), "correlation": 1}
LARGE = {"hidden_irreps": "64x0e+64x1o+64x2e", "l_max": 2, "layers": 5, "features_dim": 128, "radial_hidden": (64, 64), "cutoff": 6.0}


class Peer:
    """A process with models of another package, which makes a step of the one whose name it is sent."""

    def __init__(self, environment, models: str):
        program = "import sys\n" + environment.MODELS + models + ANSWER
        command = [str(environment.PYTHON), "-W", "ignore", "-c", program, str(MODEL / "start.xyz"), str(torch.get_num_threads())]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            cwd=mace_environment.ROOT,
        )
        self._until("ready")  # the packages print notices first

    def step(self, name: str) -> None:
        self.process.stdin.write(name + "\n")
        self._until("done")

    def _until(self, word: str) -> None:
        for line in self.process.stdout:
            if line.strip() == word:
                return
        sys.exit(f"a process of a peer ended before it said {word}: {' '.join(map(str, self.process.args[:3]))}")


atoms, rng = start(300.0, 0), np.random.default_rng(0)


def ours(calculator: RACECalculator) -> None:
    atoms.calc = calculator
    atoms.positions += 1e-3 * rng.normal(size=atoms.positions.shape)
    atoms.get_forces()


if __name__ == "__main__":
    given = arguments(__doc__, rounds=20, setup=0)
    for environment in (mace_environment, apax_environment):
        environment.ready(bool(given.setup))
    mace, apax = Peer(mace_environment, MACE), Peer(apax_environment, APAX)
    elements, llpr = (1, 6, 7, 8), MODEL.parent / "3bpa-llpr"
    cases = {f"3bpa-de, {dtype}": RACECalculator(MODEL, "cpu", dtype) for dtype in ("float64", "float32")}
    cases |= {
        f"3bpa-llpr, energy σ, {dtype}": RACECalculator(llpr, "cpu", dtype, forces_epistemic=False) for dtype in ("float64", "float32")
    }
    cases |= {f"3bpa-llpr, {dtype}": RACECalculator(llpr, "cpu", dtype) for dtype in ("float64", "float32")}
    for name, shape in (("ten members of 2026-11-24", BEFORE), ("ten large members", LARGE)):
        cases |= {f"{name}, float32": calculator_of(untrained(elements, 10, 21.0, **shape), "float32")}
    steps = {name: (lambda c=calculator: ours(c)) for name, calculator in cases.items()}
    for peer, names in ((mace, ("one MACE", "ten MACE")), (apax, ("GMNN", "GMNN, shallow ten", "equivariant", "equivariant, shallow ten"))):
        prefix = "apax " if peer is apax else ""
        steps |= {prefix + name: (lambda peer=peer, name=prefix + name: peer.step(name)) for name in names}
    times = interleaved(steps, given.rounds)
    for peer in (mace, apax):
        peer.process.stdin.close()
        peer.process.wait()
    results = {"threads": torch.get_num_threads()} | {f"{name}, ms": value for name, value in times.items()}
    for name in cases:
        results |= {f"{name} / {peer}": times[name] / times[peer] for peer in ("one MACE", "ten MACE", "apax GMNN, shallow ten")}
    report(given, results)
