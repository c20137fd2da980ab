"""A prediction as one compiled call against the same kernels called by torch, and what the processor could do: time and share of the peak.

    python benchmarks/one_call.py [--model models/3bpa-de] [--atoms 27,216,1000,4096] [--threads 1,2] [--dtype float64] [--rounds 10]

27 atoms are 3BPA; larger ones are silicon with models/silicon. Both ways alternate in one process. FLOP: two for each multiplication of the
network's matrices, messages and products, forward and backward, counted from the plan (`operations`). Peak: a product of two matrices of
1,024 by NumPy; bandwidth: a copy of 256 MB; with as many threads.
"""

import time
from dataclasses import replace

import ase.io
import numpy as np
import torch
from ase.build import bulk
from common import MODEL, arguments, interleaved, report
from threadpoolctl import threadpool_limits

from race_calc.data.graph import Graph, from_atoms
from race_calc.model.hardware import keep_freed_memory
from race_calc.model.kernels.live import live_of
from race_calc.model.plan import LayerPlan, Plan
from race_calc.model.weights import made, sources
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack


def operations(plan: Plan, atoms: int, edges: int) -> float:
    """FLOP of a step of one member with its forces. Of what the energy does not depend on, the forward pass only."""
    total = 0.0
    for layer, live in zip(plan.layers, live_of(plan)):
        of_atoms = sum((2 * ir.l + 1) * ir.mul * up for ir, up in zip(layer.inputs, layer.up))
        of_atoms += sum((2 * ir.l + 1) * layer.collected(t) * ir.mul for t, ir in enumerate(layer.sums))
        of_atoms += sum((2 * ir.l + 1) * _channels(layer.sums, ir.key) * ir.mul for ir in layer.factor)
        of_atoms += sum((2 * ir.l + 1) * _into(layer, ir.key) * ir.mul for ir in layer.outputs) + _channels(layer.outputs, (0, 1)) * 64
        of_edges = back = 0
        for path in layer.paths:
            l1, l3, width = layer.inputs[path.source].l, layer.sums[path.target].l, layer.up[path.source]
            coupled = (2 * l1 + 1) * ((2 * l3 + 1) if path.l2 else 1) * width
            of_edges += coupled
            back += coupled * (2 if path.l2 else 1) * (layer.sums[path.target].key in live.sums)
        total += 2 * (2 * atoms * of_atoms + edges * (of_edges + back))
    return total


def _channels(irreps, key) -> int:
    return next(ir.mul for ir in irreps if ir.key == key)


def _into(layer: LayerPlan, key: tuple[int, int]) -> int:
    """Channels of all that makes an output."""
    return sum(_channels(made(layer)[name], key) for name in sources(layer, key))


def peak(dtype: type) -> float:
    """GFLOP/s of a product of matrices."""
    a = np.random.default_rng(0).normal(size=(1024, 1024)).astype(dtype)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 2 * 1024**3 / min(times) / 1e9


def bandwidth() -> float:
    """GB/s of a copy, both ways counted."""
    a, b = torch.zeros(2**25, dtype=torch.float64), torch.empty(2**25, dtype=torch.float64)
    times = []
    for _ in range(8):
        start = time.perf_counter()
        b.copy_(a)
        times.append(time.perf_counter() - start)
    return 2 * a.numel() * 8 / min(times) / 1e9


def structure(atoms: int, cutoff: float) -> Graph:
    if atoms == 27:
        return from_atoms(ase.io.read(MODEL / "start.xyz", 0), cutoff)
    cells = round((atoms / 8) ** (1 / 3))
    crystal = bulk("Si", cubic=True) * (cells, cells, cells)
    crystal.rattle(0.05, seed=1)
    return from_atoms(crystal, cutoff)


if __name__ == "__main__":
    given = arguments(__doc__, model=str(MODEL), atoms="27,216,1000,4096", threads="1,2", dtype="float64", rounds=10)
    keep_freed_memory()
    found: dict = {}
    for threads in map(int, given.threads.split(",")):
        torch.set_num_threads(threads)
        with threadpool_limits(threads):
            most = peak(np.dtype(given.dtype).type)
        found[f"{threads} threads: peak, GFLOP/s; bandwidth, GB/s"] = [round(most, 1), round(bandwidth(), 1)]
        for atoms in map(int, given.atoms.split(",")):
            checkpoint = load_checkpoint(given.model if atoms == 27 else MODEL.parent / "silicon")
            graph = structure(atoms, checkpoint.model.plan.config.cutoff)
            stack = load_stack(checkpoint, getattr(torch, given.dtype), torch.device("cpu"))
            ways = {"one call": stack, "by torch": replace(stack, step=None)}
            times = interleaved({name: (lambda way=way: way.predict(graph)) for name, way in ways.items()}, given.rounds)
            flop = checkpoint.members * operations(checkpoint.model.plan, graph.n_atoms, len(graph.pair))
            rate = flop / times["one call"] / 1e6
            name = f"{threads} threads, {atoms} atoms, {len(graph.pair)} edges"
            found[f"{name}: one call, by torch, ms; ratio"] = [
                round(value, 3) for value in (*times.values(), times["one call"] / times["by torch"])
            ]
            found[f"{name}: MFLOP, GFLOP/s, share of the peak"] = [round(flop / 1e6, 1), round(rate, 1), round(rate / most, 3)]
    report(given, found)
