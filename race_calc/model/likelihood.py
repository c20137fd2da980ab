"""Squared errors and Gaussian likelihoods of a stack's outputs, per member: what losses are made of.

Energy terms are means over structures (total energy), force terms means over atoms. The constants ½ log 2π are left out.

============== ======================================== =============================
method         formula                                  here
============== ======================================== =============================
energy NLL     ½ [d² / σ² + log σ²]                     `energy_nll`
force NLL      ½ [dᵀ Σ⁻¹ d + log det Σ]                 `vector_nll`
MSE            the same with σ² = 1, Σ = 1              `squared`
β-NLL          energy NLL · ⌊σ²⌋^β, force NLL           `beta` of the two
               · ⌊det Σ⌋^(β/3), no gradient through
               ⌊ ⌋ (Seitzer et al. 2022)
============== ======================================== =============================
"""

import torch
from torch import Tensor

from race_calc.model.outputs import Labels, Outputs


def squared(difference: Tensor) -> Tensor:
    """½ |d|² over the last axis, mean over the rest but the members: (M, n, k) → (M,)."""
    return 0.5 * (difference**2).sum(-1).mean(1)


def gain_of_factor(quadratic: Tensor, dimension: int) -> Tensor:
    """By how much the best factor for all σ² lowers a mean Gaussian NLL, from its mean ½ dᵀ Σ⁻¹ d: never below zero.

    With s for the factor, NLL(s) = quadratic / s + ½ dimension log s + rest is lowest at s = 2 quadratic / dimension.
    """
    return quadratic - dimension / 2 * (1 + (2 * quadratic / dimension).log())


def energy_nll(difference: Tensor, variance: Tensor, beta: float = 0.0) -> Tensor:
    """Mean over structures of the Gaussian NLL without ½ log 2π: (M, B), (M, B) eV² → (M,). `beta` of the β-NLL."""
    each = 0.5 * (difference**2 / variance + variance.log())
    return (each * variance.detach() ** beta if beta else each).mean(1)


def vector_nll(quadratic: Tensor, log_det: Tensor, beta: float = 0.0) -> Tensor:
    """Mean over atoms of the 3-D Gaussian NLL without the constant, of dᵀ Σ⁻¹ d and log det Σ (M, N) → (M,). `beta` of the β-NLL."""
    each = 0.5 * (quadratic + log_det)
    return (each * (log_det.detach() * (beta / 3)).exp() if beta else each).mean(1)


def whitened(difference: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """dᵀ Σ⁻¹ d and log det Σ, (M, N) each; NaN where Σ is not positive definite, so that the step is skipped."""
    lower, failed = torch.linalg.cholesky_ex(covariance)
    lower = torch.where(failed[..., None, None] > 0, torch.full_like(lower, float("nan")), lower)
    white = torch.linalg.solve_triangular(lower, difference[..., None], upper=False)[..., 0]
    return (white**2).sum(-1), 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def stress_squared(outputs: Outputs, labels: Labels) -> Tensor:
    """½ |Δσ|² (eV/Å³)², mean over the structures that have a stress label; zero if none has."""
    known = torch.isfinite(labels.virial).flatten(1).all(1) & (labels.volume > 0)
    if not known.any():
        return outputs.virial.new_zeros(len(outputs.virial))
    difference = (labels.virial - outputs.virial)[:, known] / labels.volume[known, None, None]
    return squared(difference.flatten(2))
