"""Mutated structures: refused with a clear message, right, silently wrong, crash or hang. Exit code 1 when the bar is missed.

Each case runs in a worker process with 25 s of computing and 8 GiB. "Right" is judged by the energy and forces of the structure
that was meant (before a shift by lattice vectors, a permutation, a rotation, another cell of the same lattice; the plain arrays of
a strange array), with neighbours from a search over all images and pairs written here. Cases come from `--seed` and their number;
with `--log FILE` a run that was stopped goes on.
"""

import argparse
import json
import os
import resource
import selectors
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read
from structure_cases import MUTATIONS, Case

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S, LIMIT_BYTES = 25, 8 * 2**30
MOST_DISTANCES = 3e7  # of a brute-force search
CLASSES = ("right", "refused", "refused, but good", "unclear message", "not judged", "silently wrong", "crash", "hang")
BAR = CLASSES[2:]  # none of these


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {"n": 3000, "seed": 0, "log": "", "serve": "", "only": -1}.items():
        parser.add_argument(f"--{name}", default=default, type=type(default))
    given = parser.parse_args()
    if given.serve:
        return serve(Path(given.serve), given.seed)
    with tempfile.TemporaryDirectory() as folder:
        write_periodic_model(Path(folder))
        cases = range(given.n) if given.only < 0 else [given.only]
        found = run(cases, given.seed, Path(folder), Path(given.log) if given.log else None)
    table(found)
    return int(any(one["class"] in BAR for one in found))


def run(cases, seed: int, folder: Path, log: Path | None) -> list[dict]:
    """One worker, made anew after a crash or hang."""
    known = [json.loads(line) for line in log.read_text().splitlines()] if log and log.exists() else []
    found = {one["case"]: one for one in known if one["seed"] == seed and one["case"] in cases}
    worker = None
    for k in cases:
        if k in found:
            continue
        worker = worker or start(folder, seed)
        worker.stdin.write(f"{k}\n")
        line = answer(worker)
        if line is None or not line:
            worker.kill()
            one = {"class": "hang" if line is None else "crash", "message": f"exit code {worker.wait()}"}
            worker = None
        else:
            one = json.loads(line)
        found[k] = {"case": k, "seed": seed, "mutation": MUTATIONS[k % len(MUTATIONS)].__name__, **one}
        if log:
            with log.open("a") as file:
                file.write(json.dumps(found[k]) + "\n")
        if one["class"] in BAR:
            print(json.dumps(found[k]), flush=True)
        if k % 100 == 99:
            print(f"{k + 1} cases: {dict(Counter(one['class'] for one in found.values()))}", flush=True)
    if worker:
        worker.stdin.close()
        worker.wait()
    return list(found.values())


def start(folder: Path, seed: int) -> subprocess.Popen:
    command = [sys.executable, __file__, "--serve", str(folder), "--seed", str(seed)]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    if worker.stdout.readline() != "ready\n":
        raise RuntimeError("the worker does not start: see the message above")
    return worker


def answer(worker: subprocess.Popen) -> str | None:
    """A line of the worker, "" when it died, None when it computed for too long (or waited much longer: others may have the cores)."""
    began, before = time.perf_counter(), computed(worker.pid)
    with selectors.DefaultSelector() as selector:
        selector.register(worker.stdout, selectors.EVENT_READ)
        while not selector.select(0.5):
            if computed(worker.pid) - before > LIMIT_S or time.perf_counter() - began > 6 * LIMIT_S:
                return None
    return worker.stdout.readline()


def computed(pid: int) -> float:
    """Seconds that a process has computed (Linux)."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def table(found: list[dict]) -> None:
    names = dict.fromkeys(mutation.__name__ for mutation in MUTATIONS)
    print(f"{'mutation':30s}" + "".join(f"{name:>19s}" for name in CLASSES))
    for name in [*names, "all"]:
        counts = Counter(one["class"] for one in found if name in ("all", one["mutation"]))
        print(f"{name:30s}" + "".join(f"{counts[c]:19d}" for c in CLASSES))
    print(f"slowest: {max(one.get('seconds', 0) for one in found):.1f} s")


def write_periodic_model(folder: Path) -> None:
    """An untrained model of two members, whose energies have no reason to be smooth."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from common import untrained

    from race_calc.posterior.checkpoint import save_checkpoint

    shape = dict(hidden_irreps="8x0e+8x1o+8x2e", l_max=2, layers=2, features_dim=8, radial_hidden=(8,), cutoff=5.0)
    save_checkpoint(folder / "periodic", untrained((1, 6, 7, 8), 2, 20.0, **shape), "# an untrained model\n")


def bases(chain: Atoms) -> list[Atoms]:
    """Molecules, crystals, a slab and a wire of H, C, N and O; atoms a little off their places."""
    water = molecule("H2O", cell=[3.1, 3.3, 3.6], pbc=True)
    slab = bulk("C", "diamond", a=3.57, cubic=True)
    slab.pbc = (True, False, True)
    wire = molecule("CH3CH2OH", cell=[5.5, 1, 1], pbc=(True, False, False))
    skew = Atoms("CO", positions=[[0, 0, 0], [1.2, 0.3, 0.1]], cell=[[3.5, 0, 0], [1.7, 3.0, 0], [-1.1, 1.2, 3.3]], pbc=True)
    found = [chain, molecule("CH3CH2OH"), molecule("HCN"), Atoms("C"), water, bulk("C", "diamond", a=3.57), slab, wire, skew]
    for k, atoms in enumerate(found):
        atoms.calc = None
        atoms.rattle(0.05, seed=k)
    return found


def serve(folder: Path, seed: int) -> int:
    """Cases by number on standard input, outcomes as JSON on standard output."""
    import torch

    from race_calc import RACECalculator

    torch.set_num_threads(1)
    calculators = [RACECalculator(path, device="cpu") for path in (ROOT / "models/3bpa-de", ROOT / "models/3bpa-llpr", folder / "periodic")]
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    print("ready", flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        with np.errstate(all="ignore"):
            outcome = judge(int(line), seed, calculators)
        print(json.dumps({**outcome, "seconds": round(time.perf_counter() - began, 2)}), flush=True)
    return 0


def judge(k: int, seed: int, calculators: list) -> dict:
    rng = np.random.default_rng([seed, k])
    structures = bases(read(ROOT / "models/3bpa-de/start.xyz"))
    atoms, calculator = structures[rng.integers(len(structures))], calculators[rng.choice(3, p=[0.15, 0.1, 0.75])]
    way = rng.choice(["again", "fresh", "raw", "inference"])
    if way == "again":  # changed in place after a calculation
        atoms.calc = calculator
        atoms.get_forces()
    case = MUTATIONS[k % len(MUTATIONS)](rng, atoms)
    try:
        energy, forces = evaluated(case.given, calculator, way)
    except MemoryError:
        return {"class": "crash", "message": "MemoryError"}
    except Exception as error:  # what a user would see
        return refusal(case, error)
    if case.meant is None:
        return {"class": "silently wrong", "message": f"{energy} eV for what is no structure"}
    graph = brute_force(case.meant, calculator.checkpoint.model.plan.config.cutoff)
    if graph is None:
        return {"class": "not judged", "message": f"{len(case.meant)} atoms, energy {energy}"}
    return compared(case, energy, forces, calculator.posterior.predict(graph))


def evaluated(atoms: Atoms, calculator, way: str) -> tuple[float, np.ndarray]:
    import torch

    if way == "raw":
        prediction = next(iter(calculator.raw_predictions([atoms])))
        return float(prediction.energy[0]), prediction.forces
    atoms.calc = calculator
    with torch.inference_mode(way == "inference"):
        return atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)


def refusal(case: Case, error: Exception) -> dict:
    """Clear is a ValueError or TypeError of this package's own words."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    message = f"{type(error).__name__}: {error}"[:300]
    if not isinstance(error, (ValueError, TypeError)) or not Path(last).is_relative_to(ROOT / "race_calc"):
        return {"class": "unclear message", "message": f"{message} ({last})"}
    return {"class": "refused, but good" if case.must else "refused", "message": message}


def compared(case: Case, energy: float, forces: np.ndarray, truth) -> dict:
    expected = truth.forces if case.order is None else truth.forces[case.order]
    expected = expected @ case.turn
    steep = float(np.abs(expected).max())
    spacing = float(np.spacing(np.abs(np.asarray(case.given.positions, dtype=np.float64)).max()))  # what the coordinates can hold
    off_e, off_f = abs(energy - truth.energy[0]), float(np.abs(forces - expected).max())
    allowed_e = 1e-6 + 1e-9 * abs(energy) + 30 * steep * spacing
    allowed_f = 1e-5 + 1e-7 * steep + 1e4 * steep * spacing
    if off_e <= allowed_e and off_f <= allowed_f:
        return {"class": "right"}
    return {"class": "silently wrong", "message": f"off by {off_e:.3g} eV (allowed {allowed_e:.1g}), {off_f:.3g} eV/Å ({allowed_f:.1g})"}


def brute_force(atoms: Atoms, cutoff: float):
    """The graph from all distances between all atoms and all images that can be near; None where they are too many."""
    from race_calc.data.graph import Graph

    n, axes = len(atoms), np.flatnonzero(atoms.pbc)
    lattice = atoms.cell.array[axes]
    dual = np.linalg.pinv(lattice)
    cells = np.floor(atoms.positions @ dual)
    most = np.ceil(cutoff * np.linalg.norm(dual, axis=0)) + 1
    if n * n * np.prod(2 * most + 1) > MOST_DISTANCES:
        return None
    grids = np.meshgrid(*[np.arange(-m, m + 1) for m in most], indexing="ij")
    shifts = np.stack([grid.ravel() for grid in grids], axis=1) if len(axes) else np.zeros((1, 0))
    home = atoms.positions - cells @ lattice
    vectors = home[None, :, None] + (shifts @ lattice)[None, None] - home[:, None, None]  # (n, n, S, 3)
    distance = np.sqrt((vectors**2).sum(-1))
    own = np.eye(n, dtype=bool)[:, :, None] & ~shifts.any(axis=1)
    i, j, s = np.nonzero((distance < cutoff) & ~own)
    full = np.zeros((len(i), 3), dtype=np.int64)
    full[:, axes] = shifts[s]
    name = {(a, b, *c): k for k, (a, b, c) in enumerate(zip(i.tolist(), j.tolist(), map(tuple, full.tolist())))}
    back = np.array([name[b, a, -x, -y, -z] for a, b, x, y, z in name], dtype=np.int64).reshape(-1)
    pair = np.unique(np.minimum(np.arange(len(i)), back), return_inverse=True)[1].reshape(-1)
    cell, pbc = atoms.cell.array[None].copy(), np.asarray(atoms.pbc)[None]
    batch, ptr = np.zeros(n, dtype=np.int64), np.array([0, n])
    return Graph(atoms.numbers.astype(np.int64), home, cell, pbc, np.stack([i, j]), full, pair, batch, ptr)


if __name__ == "__main__":
    sys.exit(main())
