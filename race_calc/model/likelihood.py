"""Squared errors and Gaussian likelihoods of a stack's outputs, per member: what losses are made of.

Energy terms are means over structures (total energy), force terms means over atoms, stress terms means over structures with a
label. The constants ½ log 2π are left out.

============== ======================================== =============================
method         formula                                  here
============== ======================================== =============================
NLL            ½ [dᵀ Σ⁻¹ d + log det Σ]                 `gaussian_nll`
MSE            the same with σ² = 1, Σ = 1              `squared`
β-NLL          NLL · ⌊det Σ⌋^(β/k) of vectors of k, no   its `beta`
               gradient through ⌊ ⌋ (Seitzer et al.
               2022)
============== ======================================== =============================
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from race_calc.model.mandel import mandel
from race_calc.model.outputs import Labels, Outputs


def squared(difference: Tensor) -> Tensor:
    """½ |d|² over the last axis, mean over the rest but the members: (M, n, k) → (M,)."""
    return 0.5 * (difference**2).sum(-1).mean(1)


def gain_of_factor(quadratic: Tensor, dimension: int) -> Tensor:
    """By how much the best factor for all σ² lowers a mean Gaussian NLL, from its mean ½ dᵀ Σ⁻¹ d: never below zero.

    With s for the factor, NLL(s) = quadratic / s + ½ dimension log s + rest is lowest at s = 2 quadratic / dimension.
    """
    return quadratic - dimension / 2 * (1 + (2 * quadratic / dimension).log())


def gaussian_nll(quadratic: Tensor, log_det: Tensor, dimension: int, beta: float = 0.0) -> Tensor:
    """Mean Gaussian NLL without ½ log 2π, of dᵀ Σ⁻¹ d and log det Σ of `dimension` components (M, n) → (M,). `beta` of the β-NLL."""
    each = 0.5 * (quadratic + log_det)
    return (each * (log_det.detach() * (beta / dimension)).exp() if beta else each).mean(1)


def whitened(difference: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """dᵀ Σ⁻¹ d and log det Σ, (M, N) each; NaN where Σ is not positive definite, so that the step is skipped."""
    lower, failed = torch.linalg.cholesky_ex(covariance)
    lower = torch.where(failed[..., None, None] > 0, torch.full_like(lower, float("nan")), lower)
    white = torch.linalg.solve_triangular(lower, difference[..., None], upper=False)[..., 0]
    return (white**2).sum(-1), 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)


@dataclass(frozen=True)
class Quantity:
    """What has labels and may have a predicted spread.

    ========== ==============================================================================
    field      meaning
    ========== ==============================================================================
    spread     name of the output that predicts its variance, where the head has it
    weight     name of its weight in the configuration of the training
    dimension  k, of what a spread is the covariance of
    difference (outputs, labels) → label less prediction (M, n, k), or (M, n) for k = 1
    labelled   labels → which of the n have a label (n,), None: all
    unit       of which squared errors are counted: their weight is then of the size of that of the likelihood
    ========== ==============================================================================
    """

    spread: str
    weight: str
    dimension: int
    difference: Callable[[Outputs, Labels], Tensor]
    labelled: Callable[[Labels], Tensor | None] = lambda labels: None
    unit: float = 1.0

    def squares(self, outputs: Outputs, labels: Labels) -> Tensor:
        """½ |d|², in `unit`, of every member (M,), mean over what has a label; zero where nothing has."""
        difference = self.known(outputs, labels) / self.unit
        if not difference.shape[1]:
            return outputs.energy.new_zeros(len(difference))
        return squared(difference[..., None] if self.dimension == 1 else difference)

    def with_spread(self, outputs: Outputs, labels: Labels) -> tuple[Tensor, Tensor] | None:
        """Differences and values of the spread, which the head has, where there is a label; None where there is none."""
        known, value = self.labelled(labels), outputs.heads[self.spread]
        difference = self.known(outputs, labels)
        return (difference, value if known is None else value[:, known]) if difference.shape[1] else None

    def known(self, outputs: Outputs, labels: Labels) -> Tensor:
        """Differences where there is a label."""
        known, difference = self.labelled(labels), self.difference(outputs, labels)
        return difference if known is None else difference[:, known]

    def count(self, labels: Labels) -> int:
        """Structures that have a label."""
        known = self.labelled(labels)
        return len(labels.energy) if known is None else int(known.sum())


def _stress(outputs: Outputs, labels: Labels) -> Tensor:
    """In Mandel notation, whose norm is that of the matrix."""
    volume = torch.where(labels.volume > 0, labels.volume, 1.0)  # no infinite number, not even one that is left out later
    return mandel(labels.virial - outputs.virial) / volume[:, None]


def _has_stress(labels: Labels) -> Tensor:
    return torch.isfinite(labels.virial).flatten(1).all(1) & (labels.volume > 0)


def _has_forces(labels: Labels) -> Tensor | None:
    return None if labels.has_forces else torch.isfinite(labels.forces).all(1)


def _has_energy(labels: Labels) -> Tensor | None:
    return None if labels.has_energy else torch.isfinite(labels.energy)


ENERGIES = Quantity("energy_var", "energy_weight", 1, lambda outputs, labels: labels.energy - outputs.energy, _has_energy)
FORCES = Quantity("force_cov", "force_weight", 3, lambda outputs, labels: labels.forces - outputs.forces, _has_forces)
STRESSES = Quantity("stress_cov", "stress_weight", 6, _stress, _has_stress, unit=0.01)  # eV/Å³, 1.6 GPa
QUANTITIES = ENERGIES, FORCES, STRESSES
