"""The whole prediction as one call of the compiled library: from a graph to the outputs of every member."""

import ctypes
import weakref
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from race_calc.data.graph import Graph
from race_calc.model.channels import READ, by_name
from race_calc.model.kernels.arrays import aligned, aligned_copy, packed
from race_calc.model.kernels.build import library, variant
from race_calc.model.kernels.model_arrays import arrays_of
from race_calc.model.outputs import Outputs
from race_calc.model.parameters import Parameters, n_members, offset_names
from race_calc.model.race import Race, species_of
from race_calc.model.scatter import sum_by_index

MOST_KEPT = 2**30  # bytes of memory from one call to the next
_COUNTS = ("atoms", "edges", "pairs", "structures")
_POINTERS = ("species", "first", "neighbour", "pair", "vectors", "batch", "atom_energy", "scalars", "vector", "tensor", "forces", "virial")


class _Call(ctypes.Structure):
    """`Call` of step.h."""

    _fields_ = [*((name, ctypes.c_int64) for name in _COUNTS), *((name, ctypes.c_void_p) for name in (*_POINTERS, "features"))]


class Structures(NamedTuple):
    """What `Output.of_structures` reads of a layout."""

    batch: Tensor
    n_structures: int
    volume: Tensor


class CompiledStep:
    """A stack of parameter sets with tables (`race_calc.model.table`), ready in the library.

    `each`: forces of every member, else, where the members share their trunk, of their mean energy. Copies and pickles are made anew from
    the block. Raises NoKernels where there is no library, and RuntimeError for a block that it cannot use.
    """

    def __init__(self, model: Race, parameters: Parameters, each: bool):
        offsets = {name: parameters[name] for name in offset_names(model.plan)}
        trunks, members, dtype = len(parameters["embedding"]), n_members(parameters), parameters["embedding"].dtype
        self._set(packed(arrays_of(model, parameters, each)), model, offsets, (trunks, members, members if each else trunks), dtype)

    def _set(self, block: np.ndarray, model: Race, offsets: Parameters, rows: tuple[int, int, int], dtype: torch.dtype) -> None:
        self.block, self.model, self.offsets, self.rows, self.dtype = block, model, offsets, rows, dtype
        kind = f"{'float' if dtype == torch.float32 else 'double'}_{variant()}"
        names = ("load_model", "free_model", "step_bytes", "step")
        load, free, self._bytes, self._step = (getattr(library(), f"{name}_{kind}") for name in names)
        load.restype, load.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]
        free.restype, free.argtypes = None, [ctypes.c_void_p]
        self._bytes.restype, self._bytes.argtypes = ctypes.c_int64, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        self._step.argtypes = [*self._bytes.argtypes, ctypes.c_void_p]
        self._spaces: list[np.ndarray] = []  # memory of calls that are over; each thread takes one
        problem = ctypes.create_string_buffer(256)
        self._address = load(block.ctypes.data, problem)
        if self._address is None:
            raise RuntimeError(f"the compiled step cannot use this model: {problem.value.decode()}")
        weakref.finalize(self, free, self._address)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.block, self.model, self.offsets, self.rows, self.dtype)

    def __call__(self, graph: Graph, threads: int) -> Outputs:
        """Of every structure of the graph. Raises ValueError for an element that the model does not know, MemoryError."""
        plan, (trunks, members, rows) = self.model.plan, self.rows
        n, structures, last = graph.n_atoms, graph.n_structures, members // trunks
        centre, neighbour = graph.edge_index
        first = np.concatenate([[0], np.cumsum(np.bincount(centre, minlength=n))])
        columns = plan.columns("0e")
        made = {
            "atom_energy": np.zeros((trunks, n, last)),
            "scalars": np.zeros((trunks, n, last * columns)),
            "forces": np.empty((rows, n, 3)),
            "virial": np.empty((rows, structures, 3, 3)),
            "features": np.empty((n, len(plan.layers) * 64)),
        }
        for irrep, name in READ.items():
            if width := plan.columns(irrep):
                made[name] = np.zeros((trunks, n, 2 * int(irrep[0]) + 1, width))
        given = {
            "species": species_of(self.model, graph.numbers),
            "first": first,
            "neighbour": np.ascontiguousarray(neighbour, dtype=np.int64),
            "pair": np.ascontiguousarray(graph.pair, dtype=np.int64),
            "vectors": np.ascontiguousarray(graph.edge_vectors),
            "batch": np.ascontiguousarray(graph.batch, dtype=np.int64),
        }
        call = _Call(
            atoms=n,
            edges=len(graph.pair),
            pairs=len(graph.pair) // 2,
            structures=structures,
            **{name: array.ctypes.data for name, array in (given | made).items()},
        )
        if self._run(call, threads):
            raise MemoryError("the compiled step got no memory or no thread: use fewer threads or a smaller structure")
        return self._outputs({name: torch.from_numpy(array) for name, array in made.items()}, graph)

    def _run(self, call: _Call, threads: int) -> int:
        """The call, in memory that is kept for the next one: that of the system would have to be mapped and cleared at every step."""
        arguments = self._address, ctypes.addressof(call), threads
        needed = self._bytes(*arguments)
        try:
            space = self._spaces.pop()
        except IndexError:
            space = aligned(0)
        if len(space) < needed:
            space = aligned(needed + needed // 8)  # the number of neighbours goes up and down
        failed = self._step(*arguments, space.ctypes.data)
        if not self._spaces and len(space) <= MOST_KEPT:
            self._spaces.append(space)
        return int(failed)

    def _outputs(self, made: dict[str, Tensor], graph: Graph) -> Outputs:
        """The outputs of the head from what was read, mean over the layers."""
        plan, (trunks, members, _) = self.model.plan, self.rows
        n, batch = graph.n_atoms, torch.from_numpy(graph.batch)
        atom_energy = made["atom_energy"].transpose(1, 2).reshape(members, n)
        scalars = made["scalars"].view(trunks, n, members // trunks, -1).transpose(1, 2).reshape(members, n, -1)
        columns = {"0e": scalars} | {irrep: made[name].expand(members, -1, -1, -1) for irrep, name in READ.items() if name in made}
        channels, heads = by_name(plan.channels, {irrep: values.to(self.dtype) for irrep, values in columns.items()}), {}
        for output in plan.outputs:
            value = output.value(channels, self.offsets[output.offset] if output.offset else None)
            if output.per_structure:
                value = output.of_structures(
                    sum_by_index(value, batch, graph.n_structures), Structures(batch, graph.n_structures, torch.from_numpy(graph.volume))
                )
            heads[output.name] = value
        energy = sum_by_index(atom_energy, batch, graph.n_structures)
        return Outputs(energy, atom_energy, made["forces"], made["virial"], made["features"][None], heads)


def _again(block: np.ndarray, *rest: Any) -> CompiledStep:
    step = CompiledStep.__new__(CompiledStep)
    step._set(aligned_copy(block), *rest)
    return step
