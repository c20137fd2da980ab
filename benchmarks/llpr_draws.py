"""LLPR: how far the force covariances of M last layers are from the closed form, and what a step costs with them."""

from dataclasses import replace

import ase.io
import numpy as np
import torch
from common import MODEL, arguments, interleaved, report

from race_calc.data.graph import from_atoms
from race_calc.model.hardware import keep_freed_memory
from race_calc.model.parameters import is_last_layer
from race_calc.posterior import llpr
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.last_layer import with_last_layers
from race_calc.posterior.load import load_stack

given = arguments(
    __doc__,
    model=str(MODEL.parent / "3bpa-llpr"),
    files=str(MODEL / "start.xyz"),
    frames=20,
    members="16,30,64",
    seeds=4,
    rounds=20,
    dtype="float64",
)
keep_freed_memory()
checkpoint = load_checkpoint(given.model)
one = {name: value.double().mean(0, keepdim=True) if is_last_layer(name) else value for name, value in checkpoint.parameters.items()}
mean = torch.cat([value[0, :, 0] for name, value in one.items() if is_last_layer(name)])
fit = llpr.LastLayerFit(mean, torch.linalg.cholesky(torch.from_numpy(checkpoint.last_layer)), 1.0)


def stack_of(members, seed=0):
    drawn = replace(checkpoint, parameters=with_last_layers(one, llpr.sample(fit, members, seed)))
    return load_stack(drawn, getattr(torch, given.dtype), torch.device("cpu"))


def traces(stack):
    """Of the epistemic covariance of each atom, (frames, N)."""
    return np.stack([np.trace(stack.predict(graph).forces_covariance_epistemic, axis1=-2, axis2=-1) for graph in graphs])


structures = [atoms for file in given.files.split(",") for atoms in ase.io.read(file, f":{5 * given.frames}:5")]
graphs = [from_atoms(atoms, checkpoint.model.plan.config.cutoff) for atoms in structures]
whole, stored = stack_of(2 * len(mean)), load_stack(checkpoint, getattr(torch, given.dtype), torch.device("cpu"))
exact = traces(whole)
members = list(map(int, given.members.split(",")))
samples = {"stored": [stored]} | {str(m): [stack_of(m, seed) for seed in range(given.seeds)] for m in members}
steps = {name: stacks[0] for name, stacks in samples.items()} | {str(whole.members): whole}
times = interleaved({name: (lambda stack=stack: stack.predict(graphs[0])) for name, stack in steps.items()}, given.rounds)
found = {f"step with {name}, ms": value for name, value in times.items()}
for name, stacks in samples.items():
    each = [traces(stack) for stack in stacks]
    ratios = np.stack([trace / exact for trace in each])
    largest = np.stack([np.sqrt(trace.max(1) / exact.max(1)) for trace in each])
    found[f"variance of an atom over the closed form with {name}, mean and sd"] = [float(ratios.mean()), float(ratios.std())]
    found[f"largest sigma of a frame over the closed form with {name}, mean and sd"] = [float(largest.mean()), float(largest.std())]
report(given, {"threads": torch.get_num_threads(), "frames": len(graphs), "weights": len(mean)} | found)
