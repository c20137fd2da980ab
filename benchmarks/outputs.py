"""One member: everything (energy, forces, variances, force covariances) against a model with energy and forces only."""

import torch
from common import arguments, interleaved, report, start, untrained

from race_calc.data.graph import from_atoms
from race_calc.model.hardware import keep_freed_memory
from race_calc.posterior.load import load_stack

given = arguments(__doc__, rounds=100, dtype="float64", members=1, cutoff=6.0)
keep_freed_memory()
shape = dict(hidden_irreps="32x0e+32x1o+16x2e", features_dim=32, radial_hidden=(32, 32), cutoff=given.cutoff)
cpu, dtype = torch.device("cpu"), getattr(torch, given.dtype)
graph = from_atoms(start(300.0, 0), given.cutoff)
stacks = {head: load_stack(untrained((1, 6, 7, 8), given.members, 21.0, head=head, **shape), dtype, cpu) for head in ("joint", "mse")}
times = interleaved({head: lambda s=stack: s.predict(graph) for head, stack in stacks.items()}, given.rounds)
report(
    given,
    {
        "threads": torch.get_num_threads(),
        "members": given.members,
        "head joint, all outputs, ms": times["joint"],
        "head mse, energy and forces, ms": times["mse"],
        "ratio": times["joint"] / times["mse"],
    },
)
