"""Messages summed over the neighbours, as differentiable torch functions on the C kernels (CPU).

`message_sums` can be differentiated twice with respect to radial weights and features, which is what
training on forces needs, and once with respect to the spherical harmonics. The form and its gradients are
written down at the top of messages.c.
"""

import ctypes
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from race_calc.kernels.build import NoCompiler, library
from race_calc.model.angular import clebsch_gordan
from race_calc.model.plan import LayerPlan
from race_calc.parallel import run_parts

PATH = np.dtype([(name, np.int32) for name in ("l1", "l3", "source", "target", "channels", "r", "o", "k", "again")])


class Task(ctypes.Structure):
    """`Task` of messages.c."""

    _fields_ = (
        [(name, ctypes.c_int64) for name in (
            "members", "atoms", "edges", "pairs", "n_paths", "n_couplings", "n_k", "n_y", "n_targets",
            "radial_width", "rows", "table_member")]
        + [(name, ctypes.c_void_p) for name in (
            "paths", "couplings", "first_coupling", "first", "neighbour", "pair", "source_width", "target_width",
            "target_channels", "y")]
        + [("y_member", ctypes.c_int64)]
        + [(name, ctypes.c_void_p) for name in (
            "radial", "table", "place", "u", "g", "d_y", "d_radial", "d_place", "d_u", "h_y", "h_radial", "h_u", "d_g")]
    )


@dataclass(frozen=True)
class Neighbours:
    """Edges sorted by centre: first (N + 1,), neighbour (E,), row of the radial weights (E,); int64 on the CPU.

    `threads`: how many share the work of a kernel.
    """

    first: Tensor
    neighbour: Tensor
    pair: Tensor
    threads: int = 1


@dataclass(frozen=True)
class Recipe:
    """The paths of a layer, all or those into some of its irreps, as the kernels read them; arrays of constants."""

    paths: np.ndarray
    couplings: np.ndarray
    first_coupling: np.ndarray
    n_k: int
    sources: tuple[tuple[int, int], ...]  # (2 l + 1, channels) of each u
    targets: tuple[tuple[int, int], ...]  # the same of each sum
    source_width: np.ndarray
    target_width: np.ndarray
    target_channels: np.ndarray
    radial_width: int
    part: Callable[[tuple[int, ...]], "Recipe"]  # the paths into these targets only


@lru_cache(maxsize=None)
def recipe(layer: LayerPlan, l_max: int, real: str, live: tuple[int, ...] | None = None) -> Recipe:
    """Offsets of every path in radial weights and sums, and the Clebsch-Gordan coefficients, sparse.

    `live`: only the paths into these target irreps; None: all.
    """
    live = tuple(range(len(layer.outputs))) if live is None else live
    coupling = np.dtype([("k", np.int32), ("y", np.int32), ("value", np.float32 if real == "float" else np.float64)])
    paths, couplings, at, channels, r = [], [], {}, [0] * len(layer.outputs), 0
    n_k = 0
    for path in layer.paths:
        l1, l3, width = layer.inputs[path.source].l, layer.outputs[path.target].l, layer.up[path.source]
        k, again = -1, False
        if path.l2 and path.target in live:
            again = (l1, path.l2, l3) in at
            if not again:
                at[l1, path.l2, l3] = n_k
                for (a, y, b), value in np.ndenumerate(clebsch_gordan(l1, path.l2, l3)):
                    if abs(value) > 1e-12:
                        couplings.append((n_k + a * (2 * l3 + 1) + b, path.l2**2 + y, value))
                n_k += (2 * l1 + 1) * (2 * l3 + 1)
            k = at[l1, path.l2, l3]
        if path.target in live:
            paths.append((l1, l3, path.source, live.index(path.target), width, r, channels[path.target], k, again))
        channels[path.target] += width
        r += width
    sources = tuple((2 * ir.l + 1, up) for ir, up in zip(layer.inputs, layer.up))
    targets = tuple((2 * layer.outputs[t].l + 1, channels[t]) for t in live)
    couplings = np.array(sorted(couplings, key=lambda c: (c[1], c[0])), dtype=coupling)
    first_coupling = np.searchsorted(couplings["y"], np.arange((l_max + 1) ** 2 + 1))
    return Recipe(
        np.array(paths, dtype=PATH), couplings, first_coupling.astype(np.int64), n_k, sources, targets,
        np.array([k * c for k, c in sources], dtype=np.int32), np.array([k * c for k, c in targets], dtype=np.int32),
        np.array([c for _, c in targets], dtype=np.int32), r, partial(recipe, layer, l_max, real),
    )


def kernels_usable(device: torch.device) -> bool:
    """Can the kernels work here? They need a CPU and a C compiler."""
    return why_not(device) is None


def why_not(device: torch.device) -> str | None:
    """What keeps the kernels from working here, in words; None if nothing does."""
    if device.type != "cpu":
        return f"the compiled kernels are for the CPU, not for {device}"
    return _build_problem()


@lru_cache(maxsize=None)
def _build_problem() -> str | None:
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(library, ("float", "double")))
    except NoCompiler as error:
        return str(error)
    return None


def message_sums(layer: LayerPlan, at: Neighbours, harmonics: Tensor, radial: Tensor, table: Tensor | None,
                 features: Sequence[Tensor], training: bool) -> list[Tensor]:
    """Σ_j of the messages, one (M, N, 2 l3 + 1, channels of all its paths) per target irrep.

    harmonics (M, E, n_y), shared by the members (expanded). radial: path weights (M, E/2, W), or with a `table`
    (M, rows, W) the place on it (M, E/2, 1), float64. features: (M, N, 2 l + 1, C) per source. `training`: the
    gradient to the harmonics is needed only where the graph of the first backward pass is kept.
    """
    constants = recipe(layer, math.isqrt(harmonics.shape[-1]) - 1, _real(features[0]))
    _check(constants, harmonics, radial, table, features)
    features = [x.contiguous() for x in features]  # here, so that their graph is kept
    return list(_Sums.apply(constants, at, training, table, harmonics, radial, *features))


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, recipe, at, training, table, harmonics, radial, *features):
        m, n = features[0].shape[:2]
        sums = [features[0].new_empty(m, n, k, c) for k, c in recipe.targets]
        _run("forward", recipe, at, harmonics, radial, table, features, sums)
        ctx.static = recipe, at, training, table
        ctx.save_for_backward(harmonics, radial, *features)
        ctx.set_materialize_grads(False)
        return tuple(sums)

    @staticmethod
    def backward(ctx, *gradients):
        recipe, at, training, table = ctx.static
        geometry = not training or torch.is_grad_enabled()
        live = tuple(t for t, gradient in enumerate(gradients) if gradient is not None)
        if len(live) < len(gradients):  # the energy does not depend on what only the covariance reads
            recipe, gradients = recipe.part(live), [gradients[t] for t in live]
        found = _Gradients.apply(recipe, at, table, geometry, len(gradients), *gradients, *ctx.saved_tensors)
        return (None, None, None, None, *(found if geometry else (None, *found)))


class _Gradients(torch.autograd.Function):
    """Gradients of <sums, g>: to the harmonics if `geometry`, to radial and features always."""

    @staticmethod
    def forward(ctx, recipe, at, table, geometry, count, *arguments):
        sums = tuple(g.contiguous() for g in arguments[:count])
        harmonics, radial, *features = arguments[count:]
        d_harmonics = harmonics.new_empty(harmonics.shape) if geometry else None
        d_radial = radial.new_zeros(radial.shape)
        d_features = [torch.zeros_like(x) for x in features]
        _run("backward", recipe, at, harmonics, radial, table, features, sums, d_y=d_harmonics, d_u=d_features,
             **{"d_radial" if table is None else "d_place": d_radial})
        ctx.static, ctx.count, ctx.once = (recipe, at), count, table is not None
        ctx.save_for_backward(*sums, harmonics, radial, *features)
        return (d_harmonics, d_radial, *d_features) if geometry else (d_radial, *d_features)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, h_harmonics, h_radial, *h_features):
        if ctx.once:
            raise RuntimeError("a radial table is for prediction: its gradient cannot be differentiated again")
        recipe, at = ctx.static
        sums = ctx.saved_tensors[: ctx.count]
        harmonics, radial, *features = ctx.saved_tensors[ctx.count:]
        d_sums = [torch.empty_like(g) for g in sums]
        d_radial = radial.new_zeros(radial.shape)
        d_features = [torch.zeros_like(x) for x in features]
        _run("twice", recipe, at, harmonics, radial, None, features, sums, d_radial=d_radial, d_u=d_features,
             h_y=h_harmonics.contiguous(), h_radial=h_radial.contiguous(), h_u=[h.contiguous() for h in h_features],
             d_g=d_sums)
        return (None, None, None, None, None, *d_sums, None, d_radial, *d_features)


def _real(x: Tensor) -> str:
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"the kernels work in float32 or float64, not in {x.dtype}")
    return "float" if x.dtype == torch.float32 else "double"


def _check(recipe: Recipe, harmonics: Tensor, radial: Tensor, table: Tensor | None, features: Sequence[Tensor]) -> None:
    """Raise ValueError where the kernels would read other memory than was meant."""
    dtype = features[0].dtype
    weights = radial if table is None else table
    if weights.shape[-1] != recipe.radial_width or harmonics.dtype != dtype or weights.dtype != dtype:
        raise ValueError(f"radial weights {tuple(weights.shape)} {weights.dtype}, harmonics {harmonics.dtype} and features "
                         f"{dtype} do not fit a layer with {recipe.radial_width} path weights")
    if table is None:
        return
    if table.dim() != 3 or len(table) != len(features[0]) or table.shape[1] < 6 or not table[0].is_contiguous():
        raise ValueError(f"a radial table has the shape (members, 6 rows or more, path weights), not {tuple(table.shape)}")
    if radial.dtype != torch.float64:
        raise ValueError("places on a radial table must be float64")


def _run(name: str, recipe: Recipe, at: Neighbours, harmonics: Tensor, radial: Tensor, table: Tensor | None,
         features: Sequence[Tensor], sums: Sequence[Tensor], **more) -> None:
    kernel = getattr(library(_real(features[0])), name)
    shared = harmonics.stride(0) == 0
    y = harmonics[:1].contiguous() if shared else harmonics.contiguous()
    radial = radial[:1].contiguous() if table is not None else radial.contiguous()  # places are shared
    members, atoms = features[0].shape[:2]
    tensors = {"y": y, "first": at.first, "neighbour": at.neighbour, "pair": at.pair, "u": features, "g": sums, **more}
    tensors |= {"radial": radial} if table is None else {"table": table, "place": radial}
    arrays = {name: getattr(recipe, name) for name in
              ("paths", "couplings", "first_coupling", "source_width", "target_width", "target_channels")}
    scalars = dict(
        members=members, atoms=atoms, edges=len(at.neighbour), pairs=radial.shape[1], n_paths=len(recipe.paths),
        n_couplings=len(recipe.couplings), n_k=recipe.n_k, n_y=harmonics.shape[-1], n_targets=len(sums),
        radial_width=recipe.radial_width, rows=0 if table is None else table.shape[1],
        table_member=0 if table is None else table.stride(0),
        y_member=0 if shared else y[0].numel(), **{key: value.ctypes.data for key, value in arrays.items()},
    )
    parts = min(at.threads, max(members, atoms))
    by_members = members >= parts
    added = [] if by_members else [key for key in ("d_u", "d_radial", "d_place") if key in tensors]
    own = [tensors] + [tensors | {key: _zeros_like(tensors[key]) for key in added} for _ in range(parts - 1)]
    if by_members:
        cuts = np.linspace(0, members, parts + 1).astype(int).tolist()
    else:  # the same number of edges for each
        cuts = np.searchsorted(at.first.numpy(), np.linspace(0, len(at.neighbour), parts + 1)).tolist()
        cuts[0], cuts[-1] = 0, atoms

    def work(part: int) -> int:
        lists = {key: (ctypes.c_void_p * len(value))(*(x.data_ptr() for x in value))
                 for key, value in own[part].items() if isinstance(value, (list, tuple))}
        task = Task(**scalars, **{key: ctypes.addressof(value) for key, value in lists.items()},
                    **{key: value.data_ptr() for key, value in own[part].items() if isinstance(value, Tensor)})
        some = cuts[part : part + 2]
        return kernel(ctypes.addressof(task), *(some if by_members else (0, members)), *((0, atoms) if by_members else some))

    if any(run_parts(work, parts)):
        raise MemoryError("a message kernel got no memory for its edges")
    for others in own[1:]:
        for key in added:
            for total, part in zip(_listed(tensors[key]), _listed(others[key])):
                total += part


def _listed(value: Tensor | list[Tensor]) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else value


def _zeros_like(value: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    return torch.zeros_like(value) if isinstance(value, Tensor) else [torch.zeros_like(x) for x in value]
