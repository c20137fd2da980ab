"""Quantum nuclei with an error bar: i-PI, four beads evaluated together, the average reweighted for every member of the model.

python examples/ipi/pimd.py silicon diamond.xyz runs/pimd 2000      (extra ipi; some 20 ms a step of 8 atoms)
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from ase.io import read, write

import race_calc
from race_calc.posterior.shipped import model_folder

BEADS, KELVIN = 4, 300
if len(sys.argv) != 5:
    raise SystemExit(__doc__)
model, structure, folder, steps = Path(model_folder(sys.argv[1])).resolve(), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
bin = Path(sys.executable).parent
folder.mkdir(parents=True, exist_ok=True)
atoms = read(structure)
write(folder / "template.xyz", atoms)
if not atoms.pbc.any():
    atoms.set_cell([40, 40, 40])  # i-PI wants a box; the template has none, and so the model sees none
lines = [str(len(atoms)), f"# CELL(abcABC): {' '.join(map(str, atoms.cell.cellpar()))} positions{{angstrom}} cell{{angstrom}}"]
lines += [f"{atom.symbol} {atom.x} {atom.y} {atom.z}" for atom in atoms]
(folder / "start.xyz").write_text("\n".join(lines) + "\n")
pes = Path(race_calc.__file__).parent / "interfaces" / "ipi_pes.py"
text = Path(__file__).with_name("pimd.xml").read_text()
(folder / "input.xml").write_text(text.format(pes=pes, model=model, steps=steps, beads=BEADS, kelvin=KELVIN))
subprocess.run([bin / "i-pi", "input.xml"], cwd=folder, check=True, stdout=(folder / "log").open("w"))
if (folder / "EXIT").exists():
    print((folder / "EXIT").read_text().strip())
members = np.mean([np.loadtxt(folder / f"run.members_{b}") for b in range(BEADS)], axis=0)  # (frames, members)
np.savetxt(folder / "members", members[1:])
np.savetxt(folder / "kinetic", np.loadtxt(folder / "run.out")[1:, 1])
command = [bin / "i-pi-committee-reweight", "members", "kinetic", "--input", "input.xml"]
print("quantum kinetic energy in hartree: mean, error, and what each member would have found")
print(subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
