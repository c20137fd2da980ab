"""A step of all members at once against the same members one after the other (interleaved, same process)."""

from dataclasses import replace

import torch
from common import MODEL, arguments, interleaved, report, start

from race_calc.data.graph import from_atoms
from race_calc.model.hardware import keep_freed_memory
from race_calc.model.parameters import select_members
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack

given = arguments(__doc__, model=str(MODEL), rounds=20, dtype="float64", compile="yes")
keep_freed_memory()
checkpoint = load_checkpoint(given.model)
stack = load_stack(checkpoint, getattr(torch, given.dtype), torch.device("cpu"), compile=given.compile == "yes")
singles = [replace(stack, parameters=select_members(stack.parameters, [m])) for m in range(stack.members)]
graph = from_atoms(start(300.0, 0), stack.model.plan.config.cutoff)

times = interleaved({"stack": lambda: stack.predict(graph), "singles": lambda: [single.predict(graph) for single in singles]}, given.rounds)
together, apart = times["stack"], times["singles"]
report(
    given,
    {
        "threads": torch.get_num_threads(),
        "members": stack.members,
        "edges": graph.edge_index.shape[1],
        "all members in one step, ms": together,
        "one member after the other, ms": apart,
        "ratio": together / apart,
    },
)
