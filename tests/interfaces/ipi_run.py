"""i-PI with a model, as a program: what it gives goes to a file. Run by test_ipi.py."""

import json
import sys

import numpy as np
from ase.io import read
from ipi.scripting import InteractiveSimulation, simulation_xml

case = json.loads(sys.argv[1])
start = read(case["structure"])
forcefield = case["forcefield"] or (
    f"<ffdirect name='race' threaded='True'><pes>custom</pes><pes_path>{case['pes']}</pes_path><batch_size>{case['beads']}</batch_size>"
    f"<parameters>{{model: {case['model']}, template: {case['structure']}}}</parameters></ffdirect>"
)
structure = start.copy()
if not structure.pbc.any():
    structure.set_cell([40.0, 40.0, 40.0])
motion = "<motion mode='dynamics'><dynamics mode='nve'><timestep units='femtosecond'>0.5</timestep></dynamics></motion>"
output = "<output prefix='run'><checkpoint filename='chk' stride='1000'/></output>"
simulation = InteractiveSimulation(
    simulation_xml([structure] * case["beads"], forcefield, motion, temperature=0.0258520, output=output, safe_stride=1)
)
beads = [structure.copy() for _ in range(case["beads"])]
for k, bead in enumerate(beads):
    bead.rattle(case["rattle"], seed=k)
    bead.set_momenta(start.get_momenta())
simulation.set_structures(beads if len(beads) > 1 else beads[0])
simulation.run(case["steps"], write_outputs=False)
system = simulation.syslist[0]
found = {
    "step": simulation.step,
    "cell": np.array(system.cell.h).tolist(),
    "positions": np.array(system.beads.q).tolist(),
    "energies": np.array(system.forces.pots).tolist(),
    "forces": np.array(system.forces.f).tolist(),
    "virials": np.array(system.forces.virs).tolist(),
    "extras": {name: np.array(values).tolist() for name, values in system.forces.extras.items() if name != "raw"},
}
with open(case["out"], "w") as file:
    json.dump(found, file)
