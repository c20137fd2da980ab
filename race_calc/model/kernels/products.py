"""Products of features channel by channel, as differentiable torch functions on the C kernels (CPU).

`coupled_by_kernels` can be differentiated twice, which is what training on forces needs. The form and its gradients are written
down at the top of products.c.
"""

import ctypes
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from race_calc.model.hardware import run_parts
from race_calc.model.kernels.build import kernel
from race_calc.model.kernels.product_recipe import ProductRecipe, product_recipe
from race_calc.model.kernels.task import real, shares
from race_calc.model.plan import Product

_COUNTS = ("atoms", "channels", "same", "n_x", "n_y", "n_rows")
_CONSTANTS = ("x_at", "y_at", "g_at", "terms", "first_term")
_LISTS = ("x", "y", "g", "d_x", "d_y", "d_g", "h_x", "h_y")


class ProductTask(ctypes.Structure):
    """`Product` of products.c."""

    _fields_ = [*((name, ctypes.c_int64) for name in _COUNTS), *((name, ctypes.c_void_p) for name in (*_CONSTANTS, *_LISTS))]


def coupled_by_kernels(product: Product, left: Sequence[Tensor], right: Sequence[Tensor], threads: int) -> list[Tensor]:
    """Every coupling of the factors, (M, N, 2l + 1, P) per irrep: one (M, N, 2l + 1, couplings · P) per target.

    In order 2 both factors are one, and `right` is not read.
    """
    recipe = product_recipe(product, real(left[0]))
    factors = [x.contiguous() for x in (left if recipe.same else (*left, *right))]
    return list(_Products.apply(recipe, threads, len(left), *factors))


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx, recipe, threads, n_left, *factors):
        m, n = factors[0].shape[:2]
        made = [factors[0].new_empty(m, n, k, c) for k, c in recipe.targets]
        _run("multiply", recipe, threads, x=factors[:n_left], y=factors[n_left:], g=made)
        ctx.static = recipe, threads, n_left
        ctx.save_for_backward(*factors)
        ctx.set_materialize_grads(False)
        return tuple(made)

    @staticmethod
    def backward(ctx, *gradients):
        recipe, threads, n_left = ctx.static
        live = tuple(t for t, gradient in enumerate(gradients) if gradient is not None)
        if len(live) < len(gradients):
            recipe, gradients = recipe.part(live), tuple(gradients[t] for t in live)
        return None, None, None, *_Gradients.apply(recipe, threads, n_left, len(gradients), *gradients, *ctx.saved_tensors)


class _Gradients(torch.autograd.Function):
    """Gradients of <products, g> to the factors."""

    @staticmethod
    def forward(ctx, recipe, threads, n_left, count, *arguments):
        made, factors = [g.contiguous() for g in arguments[:count]], arguments[count:]
        gradients = [torch.empty_like(x) for x in factors]
        x, y = factors[:n_left], factors[n_left:]
        _run("multiply_backward", recipe, threads, x=x, y=y, g=made, d_x=gradients[:n_left], d_y=gradients[n_left:])
        ctx.static = recipe, threads, n_left, count
        ctx.save_for_backward(*made, *factors)
        return tuple(gradients)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *directions):
        recipe, threads, n_left, count = ctx.static
        made, factors = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        d_made, gradients = [torch.empty_like(g) for g in made], [torch.empty_like(x) for x in factors]
        given = [h.contiguous() for h in directions]
        x, y, d_x, d_y, h_x, h_y = (part for values in (factors, gradients, given) for part in (values[:n_left], values[n_left:]))
        _run("multiply_twice", recipe, threads, x=x, y=y, g=made, d_x=d_x, d_y=d_y, d_g=d_made, h_x=h_x, h_y=h_y)
        return None, None, None, None, *d_made, *gradients


def _run(name: str, recipe: ProductRecipe, threads: int, **lists: Sequence[Tensor]) -> None:
    """The kernel `name` of products.c, the members or the atoms shared out to threads."""
    first = lists["x"][0]
    members, atoms = first.shape[:2]
    function = kernel(name, real(first))
    pointers = {key: (ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in tensors)) for key, tensors in lists.items()}
    task = ProductTask(
        atoms=atoms,
        channels=recipe.channels,
        same=recipe.same,
        n_x=len(recipe.x_at),
        n_y=len(recipe.y_at),
        n_rows=len(recipe.g_at),
        **{key: getattr(recipe, key).ctypes.data for key in _CONSTANTS},
        **{key: ctypes.addressof(value) for key, value in pointers.items()},
    )
    shared, _ = shares(threads, members, atoms, lambda parts: np.linspace(0, atoms, parts + 1))
    run_parts(lambda part: function(ctypes.addressof(task), *shared[part]), len(shared))
