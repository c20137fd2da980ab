"""One call of a C kernel: its argument, `Task` of messages.c, filled and shared out to threads."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from race_calc.model.hardware import run_parts
from race_calc.model.kernels.build import kernel
from race_calc.model.kernels.recipe import Recipe

Tensors = dict[str, Any]  # by the names of their fields in `Task`: a Tensor, a list of them, or None where it is not wanted


_COUNTS = (
    "members",
    "atoms",
    "edges",
    "pairs",
    "n_paths",
    "n_couplings",
    "n_k",
    "n_y",
    "n_targets",
    "radial_width",
    "rows",
    "table_member",
    "one_trunk",
    "g_atoms",
    "g_from",
)
_TABLES = (
    "paths",
    "couplings",
    "first_coupling",
    "coupled",
    "kept",
    "first",
    "neighbour",
    "pair",
    "first_of_pair",
    "source_width",
    "target_width",
    "target_channels",
    "y",
)
_TENSORS = ("radial", "table", "place", "u", "g", "d_y", "d_radial", "d_place", "d_u", "h_y", "h_radial", "h_u", "d_g")


class Task(ctypes.Structure):
    """`Task` of messages.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in _COUNTS),
        *((name, ctypes.c_void_p) for name in _TABLES),
        ("y_member", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in _TENSORS),
    ]


@dataclass(frozen=True)
class Neighbours:
    """Edges sorted by centre: first (N + 1,), neighbour (E,), row of the radial weights (E,), first edge of each row (E / 2,); int64 on the
    CPU.

    `threads`: how many share the work of a kernel.
    """

    first: Tensor
    neighbour: Tensor
    pair: Tensor
    first_of_pair: Tensor
    threads: int = 1


def real(x: Tensor) -> str:
    """The C type of the numbers of x: "float" or "double"; ValueError for others."""
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"the kernels work in float32 or float64, not in {x.dtype}")
    return "float" if x.dtype == torch.float32 else "double"


def run(name: str, recipe: Recipe, at: Neighbours, tensors: Tensors) -> None:
    """The kernel `name` of messages.c, the members or the atoms shared out to threads."""
    tensors = tensors | {"first": at.first, "neighbour": at.neighbour, "pair": at.pair, "first_of_pair": at.first_of_pair}
    y, table, features = tensors["y"], tensors.get("table"), tensors["u"]
    function = kernel(name, real(features[0]))
    members, atoms = features[0].shape[:2]
    arrays = {
        name: getattr(recipe, name) for name in ("paths", "couplings", "first_coupling", "source_width", "target_width", "target_channels")
    }
    scalars = dict(
        members=members,
        atoms=atoms,
        edges=len(at.neighbour),
        pairs=tensors["radial" if table is None else "place"].shape[1],
        n_paths=len(recipe.paths),
        n_couplings=len(recipe.couplings),
        n_k=recipe.n_k,
        n_y=y.shape[-1],
        n_targets=len(tensors["g"]),
        radial_width=recipe.radial_width,
        rows=0 if table is None else table.shape[1],
        g_atoms=atoms,
        table_member=0 if table is None else table.stride(0),
        y_member=0 if len(y) == 1 else y[0].numel(),
        **{key: value.ctypes.data for key, value in arrays.items()},
    )

    def by_edges(parts: int) -> np.ndarray:
        return np.searchsorted(at.first.numpy(), np.linspace(0, len(at.neighbour), parts + 1))

    shared, by_members = shares(at.threads, members, atoms, by_edges)
    parts = len(shared)
    added = [] if by_members else [key for key in ("d_u", "d_radial", "d_place") if key in tensors]
    own = [tensors] + [tensors | {key: _zeros_like(tensors[key]) for key in added} for _ in range(parts - 1)]

    def work(part: int) -> int:
        lists = {
            key: (ctypes.c_void_p * len(value))(*(x.data_ptr() for x in value))
            for key, value in own[part].items()
            if isinstance(value, (list, tuple))
        }
        task = Task(
            **scalars,
            **{key: ctypes.addressof(value) for key, value in lists.items()},
            **{key: value.data_ptr() for key, value in own[part].items() if isinstance(value, Tensor)},
        )
        return function(ctypes.addressof(task), *shared[part])

    if any(run_parts(work, parts)):
        raise MemoryError("a message kernel got no memory for its edges")
    for others in own[1:]:
        for key in added:
            for total, part in zip(_listed(tensors[key]), _listed(others[key])):
                total += part


def shares(threads: int, members: int, atoms: int, cut: Callable[[int], np.ndarray]) -> tuple[list[tuple[int, int, int, int]], bool]:
    """First and last member, first and last atom of every part; and whether the members are shared out, or the atoms.

    `cut`: number of parts → where the atoms are cut (parts + 1,); the ends do not count.
    """
    parts = min(threads, max(members, atoms))
    if members >= parts:
        cuts = np.linspace(0, members, parts + 1).astype(int).tolist()
        return [(first, last, 0, atoms) for first, last in zip(cuts, cuts[1:])], True
    cuts = cut(parts).astype(int).tolist()
    cuts[0], cuts[-1] = 0, atoms
    return [(0, members, first, last) for first, last in zip(cuts, cuts[1:])], False


def _listed(value: Tensor | list[Tensor]) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else value


def _zeros_like(value: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    return torch.zeros_like(value) if isinstance(value, Tensor) else [torch.zeros_like(x) for x in value]
