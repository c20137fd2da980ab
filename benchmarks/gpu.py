"""Steps per second for 27, 216, 1,000 and 4,000 atoms with one and ten members, in the shape of models/3bpa-de, random weights.

    python benchmarks/gpu.py --device cuda               torch's own operations
    python benchmarks/gpu.py --device cuda --compile 1   compiled by torch

27 atoms: the 3BPA molecule; the others: periodic silicon. Neighbour list, layout and transfers are part of a step.
"""

import torch
from ase.build import bulk
from common import arguments, interleaved, report, start, untrained

from race_calc.data.graph import from_atoms
from race_calc.model.hardware import torch_device
from race_calc.posterior.load import load_stack

CRYSTALS = {216: (3, 3, 3), 1000: (5, 5, 5), 4000: (5, 10, 10)}

given = arguments(__doc__, rounds=10, device="cuda", dtype="float32", compile=0, sizes="27,216,1000,4000", members="1,10")
device, shape = torch_device(given.device), dict(hidden_irreps="32x0e+32x1o+16x2e", features_dim=32, radial_hidden=(32, 32))
results = {"device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"}
for n in map(int, given.sizes.split(",")):
    atoms = start(300.0, 0) if n == 27 else bulk("Si", cubic=True) * CRYSTALS[n]
    atoms.rattle(0.05, seed=0)
    for members in map(int, given.members.split(",")):
        checkpoint = untrained((1, 6, 7, 8, 14), members, 20.0, cutoff=5.0, **shape)
        stack = load_stack(checkpoint, getattr(torch, given.dtype), device, compile=bool(given.compile) or None)
        step = interleaved({"step": lambda: stack.predict(from_atoms(atoms, 5.0))}, given.rounds)["step"]
        results[f"{n} atoms, members {members}: steps per second"] = 1e3 / step
report(given, results)
