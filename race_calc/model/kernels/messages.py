"""Messages summed over the neighbours, as differentiable torch functions on the C kernels (CPU).

`message_sums` can be differentiated twice with respect to radial weights and features, which is what
training on forces needs, and once with respect to the spherical harmonics. The form and its gradients are
written down at the top of messages.c.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from race_calc.model.kernels.build import problem
from race_calc.model.kernels.recipe import Recipe, recipe
from race_calc.model.kernels.task import Neighbours, Tensors, real, run
from race_calc.model.plan import LayerPlan


@dataclass(frozen=True)
class PathWeights:
    """Path weights `rows` (M, E/2, W); or with a `table` (M, knots, W) the places on it, `rows` (M, E/2, 1) float64."""

    rows: Tensor
    table: Tensor | None = None


def kernels_usable(device: torch.device) -> bool:
    """Can the kernels work here? They need a CPU, and a C compiler when the package is installed."""
    return why_not(device) is None


def why_not(device: torch.device) -> str | None:
    """What keeps the kernels from working here, in words; None if nothing does."""
    if device.type != "cpu":
        return f"the compiled kernels are for the CPU, not for {device}"
    return problem()


def message_sums(
    layer: LayerPlan, at: Neighbours, harmonics: Tensor, weights: PathWeights, features: Sequence[Tensor], training: bool
) -> list[Tensor]:
    """Σ_j of the messages, one (M, N, 2 l3 + 1, channels of all its paths) per target irrep.

    harmonics (M, E, n_y), shared by the members (expanded). features: (M, N, 2 l + 1, C) per source. `training`: the
    gradient to the harmonics is needed only where the graph of the first backward pass is kept.
    """
    constants = recipe(layer, math.isqrt(harmonics.shape[-1]) - 1, real(features[0]))
    _check(constants, harmonics, weights, features)
    features = [x.contiguous() for x in features]  # here, so that their graph is kept
    return list(_Sums.apply(constants, at, training, weights.table, harmonics, weights.rows, *features))


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, recipe, at, training, table, harmonics, radial, *features):
        m, n = features[0].shape[:2]
        sums = [features[0].new_empty(m, n, k, c) for k, c in recipe.targets]
        run("forward", recipe, at, _read(harmonics, PathWeights(radial, table), features) | {"g": sums})
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
            recipe, gradients = recipe.part(live), tuple(gradients[t] for t in live)
        found = _Gradients.apply(recipe, at, table, geometry, len(gradients), *gradients, *ctx.saved_tensors)
        return (None, None, None, None, *(found if geometry else (None, *found)))


class _Gradients(torch.autograd.Function):
    """Gradients of <sums, g>: to the harmonics if `geometry`, to radial and features always."""

    @staticmethod
    def forward(ctx, recipe, at, table, geometry, count, *arguments):
        sums = tuple(g.contiguous() for g in arguments[:count])
        harmonics, radial, *features = arguments[count:]
        d_harmonics = harmonics.new_zeros(harmonics.shape) if geometry else None
        d_radial = radial.new_zeros(radial.shape)
        d_features = [torch.zeros_like(x) for x in features]
        run(
            "backward",
            recipe,
            at,
            _read(harmonics, PathWeights(radial, table), features)
            | {"g": sums, "d_y": d_harmonics, "d_u": d_features, "d_radial" if table is None else "d_place": d_radial},
        )
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
        harmonics, radial, *features = ctx.saved_tensors[ctx.count :]
        d_sums = [torch.empty_like(g) for g in sums]
        d_radial = radial.new_zeros(radial.shape)
        d_features = [torch.zeros_like(x) for x in features]
        run(
            "twice",
            recipe,
            at,
            _read(harmonics, PathWeights(radial), features)
            | {
                "g": sums,
                "d_radial": d_radial,
                "d_u": d_features,
                "h_y": h_harmonics.contiguous(),
                "h_radial": h_radial.contiguous(),
                "h_u": [h.contiguous() for h in h_features],
                "d_g": d_sums,
            },
        )
        return (None, None, None, None, None, *d_sums, None, d_radial, *d_features)


def _check(recipe: Recipe, harmonics: Tensor, given: PathWeights, features: Sequence[Tensor]) -> None:
    """Raise ValueError where the kernels would read other memory than was meant."""
    dtype, table = features[0].dtype, given.table
    weights = given.rows if table is None else table
    if weights.shape[-1] != recipe.radial_width or harmonics.dtype != dtype or weights.dtype != dtype:
        raise ValueError(
            f"radial weights {tuple(weights.shape)} {weights.dtype}, harmonics {harmonics.dtype} and features "
            f"{dtype} do not fit a layer with {recipe.radial_width} path weights"
        )
    if table is None:
        return
    if table.dim() != 3 or len(table) != len(features[0]) or table.shape[1] < 6 or not table[0].is_contiguous():
        raise ValueError(f"a radial table has the shape (members, 6 rows or more, path weights), not {tuple(table.shape)}")
    if given.rows.dtype != torch.float64:
        raise ValueError("places on a radial table must be float64")


def _read(harmonics: Tensor, weights: PathWeights, features: Sequence[Tensor]) -> Tensors:
    """What every kernel reads; of what the members share one row."""
    tensors: Tensors = {"y": harmonics[:1].contiguous() if harmonics.stride(0) == 0 else harmonics.contiguous(), "u": features}
    if weights.table is None:
        return tensors | {"radial": weights.rows.contiguous()}
    return tensors | {"table": weights.table, "place": weights.rows[:1].contiguous()}
