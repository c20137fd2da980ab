"""Spherical harmonics with their derivatives, and the Clebsch-Gordan coefficients, in e3nn's conventions."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from race_calc.model.e3nn_import import o3

Function = TypeVar("Function", bound=Callable[..., Any])
SMALLEST = 1e-12  # of a coefficient that counts
CONSTANT: list[Callable[..., Any]] = []  # what torch's compiler calls once and takes for a constant; `compiled` tells it


def constant(function: Function) -> Function:
    """Put a function into that list: torch's own decorator would load the compiler, which takes seconds."""
    CONSTANT.append(function)
    return function


@cache
def clebsch_gordan(l1: int, l2: int, l3: int) -> np.ndarray:
    """√(2 l3 + 1) · wigner_3j(l1, l2, l3), float64, (2 l1 + 1, 2 l2 + 1, 2 l3 + 1); read only."""
    coefficients = o3.wigner_3j(l1, l2, l3, dtype=torch.float64).numpy() * np.sqrt(2 * l3 + 1)
    coefficients.flags.writeable = False
    return coefficients


def coupling_matrix(l1: int, l2: int, l3: int, like: Tensor) -> Tensor:
    """Clebsch-Gordan coefficients (2 l2 + 1, (2 l1 + 1)(2 l3 + 1)) in the dtype and on the device of `like`."""
    if torch.compiler.is_compiling():
        return torch.tensor(_coupling_numbers(l1, l2, l3), dtype=like.dtype, device=like.device)
    return _coupling_tensor(l1, l2, l3, like.dtype, like.device)


@constant
def _coupling_numbers(l1: int, l2: int, l3: int) -> list[list[float]]:
    return clebsch_gordan(l1, l2, l3).transpose(1, 0, 2).reshape(2 * l2 + 1, -1).tolist()


@cache
def _coupling_tensor(l1: int, l2: int, l3: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(_coupling_numbers(l1, l2, l3), dtype=dtype, device=device)


@cache
def _raise_factor(l: int) -> float:
    """c with Y_{l+1} = c · (Y_l ⊗ Y_1) → l + 1, so that |Y_l|² = 2 l + 1 on the unit sphere."""
    axis = np.array([0.0, 1.0, 0.0])  # e3nn's polar axis is y
    y = np.sqrt(3) * axis
    lower = harmonics(axis[None], l)[0][0, l * l :]
    product = np.einsum("a,b,abc->c", lower, y, clebsch_gordan(l, 1, l + 1))
    reference = o3.spherical_harmonics(l + 1, torch.tensor(axis), normalize=True, normalization="component").numpy()
    return float(reference @ product / (product @ product))


@cache
def harmonic_terms(l_max: int) -> tuple[list[tuple[int, int, int]], list[float]]:
    """(a, b, c) and values with Y[c] = Σ value · Y[a] · Y_1[b], degree by degree: what `harmonics` sums, term by term."""
    terms, values = [], []
    for l in range(l_max):
        for (a, b, c), value in np.ndenumerate(clebsch_gordan(l, 1, l + 1) * _raise_factor(l)):
            if abs(value) > SMALLEST:
                terms.append((l**2 + a, b, (l + 1) ** 2 + c))
                values.append(float(value))
    return terms, values


def harmonics(directions: np.ndarray, l_max: int) -> tuple[np.ndarray, np.ndarray]:
    """Y_lm of unit vectors and the derivatives of the solid harmonics |r|^l Y_lm at |r| = 1.

    `directions` (E, 3). Returns Y (E, (l_max + 1)²) in component normalisation, the order of e3nn
    (Y_1 = √3 (x, y, z)), and dY (E, (l_max + 1)², 3). Built upwards by the recursion
    Y_{l+1} ∝ (Y_l ⊗ Y_1)_{l+1} and the product rule.
    """
    n = len(directions)
    values = [np.ones((n, 1))]
    slopes = [np.zeros((n, 1, 3))]
    y1 = np.sqrt(3) * directions
    dy1 = np.broadcast_to(np.sqrt(3) * np.eye(3), (n, 3, 3))
    for l in range(l_max):
        c = clebsch_gordan(l, 1, l + 1) * _raise_factor(l)
        half = np.einsum("abc,eb->eac", c, y1)
        values.append(np.einsum("ea,eac->ec", values[l], half))
        slopes.append(np.einsum("eax,eac->ecx", slopes[l], half) + np.einsum("ea,abc,ebx->ecx", values[l], c, dy1, optimize=True))
    return np.concatenate(values, axis=1), np.concatenate(slopes, axis=1)
