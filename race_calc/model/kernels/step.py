"""The whole prediction as one call of the compiled library: from a graph to the outputs of every member, of one or more surfaces."""

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from race_calc.data.graph import Graph
from race_calc.model.channels import READ, by_name
from race_calc.model.kernels.arrays import aligned, aligned_copy, packed
from race_calc.model.kernels.build import library, variant
from race_calc.model.kernels.model_arrays import arrays_of
from race_calc.model.kinds import beside_energy
from race_calc.model.outputs import Outputs
from race_calc.model.parameters import Parameters, n_members, offset_names
from race_calc.model.plan import READOUT_HIDDEN
from race_calc.model.pooling import POOLINGS, Atomic
from race_calc.model.race import Race, species_of
from race_calc.model.scatter import sum_by_index

MOST_IN_CACHE = 2**24  # bytes that the library keeps from one stage to the next rather than making them again
MOST_KEPT = 2**30  # bytes of memory from one call to the next
_COUNTS = ("atoms", "edges", "pairs", "structures", "rows", "most_kept")
_GIVEN = ("row", "species", "first", "neighbour", "pair", "vectors", "batch")
_MADE = ("atom_energy", "scalars", "vector", "tensor", "variance", "log_covariance", "forces", "virial", "features")
Arrays = dict[str, np.ndarray]


class _Call(ctypes.Structure):
    """`Call` of step.h."""

    _fields_ = [*((name, ctypes.c_int64) for name in _COUNTS), *((name, ctypes.c_void_p) for name in (*_GIVEN, *_MADE))]


class Structures(NamedTuple):
    """What poolings and `Output.of_structures` read of a layout, in the order of the graph."""

    batch: Tensor
    n_structures: int
    volume: Tensor
    positions: Tensor
    species: Tensor


class CompiledStep:
    """A stack of parameter sets with tables (`race_calc.model.table`) and all its surfaces, ready in the library.

    `each`: forces of every member, else, where the members share their trunk, of their mean energy. `stands_for`: the parameters
    in whose place it predicts; whoever has others must not use it. Copies and pickles are made anew from the block. Raises
    NoKernels where there is no library, and RuntimeError for a block that it cannot use.
    """

    def __init__(self, models: Sequence[Race], stacks: Sequence[Parameters], each: bool, stands_for: Parameters | None = None):
        trunks, self.dtype = len(stacks[0]["embedding"]), stacks[0]["embedding"].dtype
        self.block, self.models, self.stands_for = packed(arrays_of(models, stacks)), tuple(models), stands_for
        self.offsets = [{name: stack[name] for name in offset_names(model.plan)} for model, stack in zip(models, stacks)]
        self.sizes = trunks, n_members(stacks[0]) // trunks, each
        self._load()

    def _load(self) -> None:
        kind = f"{'float' if self.dtype == torch.float32 else 'double'}_{variant()}"
        names = ("load_model", "free_model", "step_bytes", "step")
        load, free, self._bytes, self._step = (getattr(library(), f"{name}_{kind}") for name in names)
        load.restype, load.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]
        free.restype, free.argtypes = None, [ctypes.c_void_p]
        self._bytes.restype, self._bytes.argtypes = ctypes.c_int64, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        self._step.argtypes = [*self._bytes.argtypes, ctypes.c_void_p]
        self._spaces: list[np.ndarray] = []  # memory of calls that are over; each thread takes one
        problem = ctypes.create_string_buffer(256)
        self._address = load(self.block.ctypes.data, problem)
        if self._address is None:
            raise RuntimeError(f"the compiled step cannot use this model: {problem.value.decode()}")
        weakref.finalize(self, free, self._address)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, block=aligned_copy(state["block"]))
        self._load()

    def __call__(self, graph: Graph, threads: int, with_forces: Sequence[bool] | None = None) -> tuple[Outputs, ...]:
        """Of every surface. `with_forces`: of which of them, None: of all; forces and virials of the others are zero.

        Raises ValueError for an element that the model does not know, MemoryError.
        """
        wanted = [self._rows(k) if with_forces is None or with_forces[k] else [] for k in range(len(self.models))]
        rows = [row for of_surface in wanted for row in of_surface]
        given, made = self._given(graph, rows), self._room(graph, len(rows))
        call = _Call(
            atoms=graph.n_atoms,
            edges=len(graph.pair),
            pairs=len(graph.pair) // 2,
            structures=graph.n_structures,
            rows=len(rows),
            most_kept=MOST_IN_CACHE,
            **{name: array.ctypes.data for name, array in (given | made).items()},
        )
        if self._run(call, threads):
            raise MemoryError("the compiled step got no memory or no thread: use fewer threads or a smaller structure")
        batch, volume, positions, species = map(torch.from_numpy, (given["batch"], graph.volume, graph.positions, given["species"]))
        around = Structures(batch, graph.n_structures, volume, positions, species)
        found = {name: torch.from_numpy(array) for name, array in made.items()}
        parts = dict(zip(("forces", "virial"), (found[name].split([len(of) for of in wanted], dim=1) for name in ("forces", "virial"))))
        return tuple(self._outputs(k, found, parts["forces"][k], parts["virial"][k], around) for k in range(len(self.models)))

    def _rows(self, k: int) -> list[int]:
        """Which energies of a trunk are differentiated for surface k; their order is that of `arrays_of`."""
        _, members, each = self.sizes
        if each or members == 1 or self.models[k].kind == "scalar":  # the mean of scalars is not that of what they are made of
            return list(range(k * members, (k + 1) * members))
        return [len(self.models) * members + k]

    def _given(self, graph: Graph, rows: list[int]) -> Arrays:
        return {
            "row": np.array(rows, dtype=np.int64),
            "species": species_of(self.models[0], graph.numbers),
            "first": graph.first_edge,
            "neighbour": np.ascontiguousarray(graph.edge_index[1], dtype=np.int64),
            "pair": np.ascontiguousarray(graph.pair, dtype=np.int64),
            "vectors": np.ascontiguousarray(graph.edge_vectors, dtype=np.float64),
            "batch": np.ascontiguousarray(graph.batch, dtype=np.int64),
        }

    def _room(self, graph: Graph, rows: int) -> Arrays:
        """Where the outputs go; what is added to is zero."""
        (trunks, members, _), n, layers = self.sizes, graph.n_atoms, len(self.models[0].plan.layers)
        made = {
            "atom_energy": np.zeros((trunks, n, len(self.models) * members)),
            "scalars": np.zeros((trunks, n, sum(members * model.plan.columns("0e") for model in self.models))),
            "forces": np.empty((trunks, rows, n, 3)),
            "virial": np.empty((trunks, rows, graph.n_structures, 3, 3)),
            "features": np.empty((n, layers * READOUT_HIDDEN)),
        }
        for irrep, name in READ.items():
            if width := sum(model.plan.columns(irrep) for model in self.models):
                made[name] = np.zeros((trunks, n, 2 * int(irrep[0]) + 1, width))
        makes = {output.compiled for model in self.models for output in model.plan.outputs}
        if "variance" in makes:
            made["variance"] = np.zeros((trunks, n, len(self.models) * members))
        if "log_covariance" in makes:
            made["log_covariance"] = np.empty((trunks, len(self.models) * members, n, 3, 3))
        return made

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

    def _outputs(self, k: int, made: dict[str, Tensor], forces: Tensor, virial: Tensor, around: Structures) -> Outputs:
        """Of surface k: the outputs of the head from what was read, mean over the layers. Forces and virial (trunks, rows, …), or none."""
        model, plan, (trunks, members, _) = self.models[k], self.models[k].plan, self.sizes
        n, own = len(around.batch), slice(k * members, (k + 1) * members)
        atom_energy = made["atom_energy"][..., own].transpose(1, 2).reshape(trunks * members, n)
        channels = self._channels(k, made, members)
        heads = {}
        for output in plan.outputs:
            if output.compiled == "variance":
                value = made["variance"][..., own].transpose(1, 2).reshape(trunks * members, n)
            elif output.compiled == "log_covariance":
                value = made["log_covariance"][:, own].flatten(0, 1)
            else:
                value = output.value(channels, self.offsets[k][output.offset] if output.offset else None)
            if output.per_structure:
                value = output.of_structures(sum_by_index(value, around.batch, around.n_structures), around)
            heads[output.name] = value
        energy, slope = _pooled(model, atom_energy, channels, around)
        forces, virial = self._chained(forces, slope, around.batch), self._chained(virial, slope, torch.arange(around.n_structures))
        return Outputs(energy, atom_energy, forces, virial, made["features"][None], heads)

    def _chained(self, gradients: Tensor, slope: Tensor | None, structure: Tensor) -> Tensor:
        """Forces or virials (rows, n, …) of a surface from those of its trunks (trunks, rows, n, …), zeros from none.

        `slope` (M, B) as from `_pooled`, `structure` (n,): of each of them.
        """
        trunks, members, each = self.sizes
        if not gradients.shape[1]:
            return gradients.new_zeros(trunks * (members if each else 1), *gradients.shape[2:])
        if slope is not None:
            factor = slope[:, structure].view(trunks, members, -1)
            gradients = gradients * factor.reshape(*factor.shape, *[1] * (gradients.dim() - 3))
            gradients = gradients if each else gradients.mean(1, keepdim=True)
        return gradients.flatten(0, 1)

    def _channels(self, k: int, made: dict[str, Tensor], members: int) -> dict[str, Tensor]:
        """What was read for surface k, mean over the layers; nothing where the library makes all of it."""
        model = self.models[k]
        if all(output.compiled for output in model.plan.outputs) and not beside_energy(model.kind):
            return {}
        columns = {"0e": self._columns("scalars", "0e", k, made, members)}
        columns |= {irrep: self._columns(name, irrep, k, made, 1) for irrep, name in READ.items() if model.plan.columns(irrep)}
        return by_name(model.plan.channels, columns)

    def _columns(self, name: str, irrep: str, k: int, made: dict[str, Tensor], members: int) -> Tensor:
        """Of surface k in the dtype of the network: (M, N, …, width), a row for every member."""
        start = members * sum(model.plan.columns(irrep) for model in self.models[:k])
        width = self.models[k].plan.columns(irrep)
        own = made[name][..., start : start + members * width].to(self.dtype)
        if members == self.sizes[1]:
            own = own.unflatten(-1, (members, width)).movedim(-2, 1).flatten(0, 1)
        return own if len(own) == self.sizes[0] * self.sizes[1] else own.expand(self.sizes[0] * self.sizes[1], *own.shape[1:])


def _pooled(model: Race, atom_energy: Tensor, channels: dict[str, Tensor], around: Structures) -> tuple[Tensor, Tensor | None]:
    """The energies (M, B), and those of scalars with their slopes to the atoms' sums."""

    def pooled(energy: Tensor) -> Tensor:
        atoms: Any = Atomic(energy, channels, model.species, around, model.scale)  # type: ignore[arg-type]  # what they read of a layout
        return POOLINGS[model.kind](atoms)

    if model.kind != "scalar":
        return pooled(atom_energy), None
    with torch.enable_grad():
        leaf = atom_energy.clone().requires_grad_()
        energy = pooled(leaf)
        (slope,) = torch.autograd.grad(energy.sum(), leaf)
    first = torch.searchsorted(around.batch, torch.arange(around.n_structures))
    return energy.detach(), slope[:, first]
