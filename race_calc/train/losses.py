"""Likelihoods and squared errors, per member: pure functions of outputs and labels.

NLL_JEF = λ_E · NLL_energy + λ_F · NLL_force, with λ on the whole term, so that λ never moves the optimum
of a variance. Energy terms are means over structures (total energy), force terms means over atoms.

============== ======================================== =============================
method         formula                                  here
============== ======================================== =============================
energy NLL     ½ [d² / σ² + log σ²]                     `energy_nll`
force NLL      ½ [dᵀ Σ⁻¹ d + log det Σ]                 `force_nll`
MSE            the same with σ² = 1, Σ = 1              `squared`
faithful       mean from the MSE, variances from        `loss` with recipe `detached`
               detached residuals (Stirn et al. 2023)
============== ======================================== =============================
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from race_calc.model.heads import CHOLESKY_JITTER
from race_calc.model.race import Outputs
from race_calc.train.config import TrainingConfig


@dataclass(frozen=True)
class Labels:
    """Energies (B,) eV less references and repulsion, forces (N, 3) eV/Å, virials (B, 3, 3) eV with NaN where unknown."""

    energy: Tensor
    forces: Tensor
    virial: Tensor
    volume: Tensor


def squared(difference: Tensor) -> Tensor:
    """½ |d|² over the last axis, mean over the rest but the members: (M, n, k) → (M,)."""
    return 0.5 * (difference**2).sum(-1).mean(1)


def energy_nll(difference: Tensor, variance: Tensor) -> Tensor:
    """Mean over structures of the Gaussian NLL without ½ log 2π: (M, B), (M, B) eV² → (M,)."""
    return 0.5 * (difference**2 / variance + variance.log()).mean(1)


def force_nll(difference: Tensor, outputs: Outputs) -> Tensor:
    """Mean over atoms of the 3-D Gaussian NLL without the constant: d (M, N, 3) eV/Å → (M,).

    For Σ = exp(S): Σ⁻¹ = exp(-S) and log det Σ = tr S; no decomposition is needed.
    """
    if outputs.log_cov is not None:
        inverse = torch.linalg.matrix_exp(-outputs.log_cov)
        quadratic = torch.einsum("mni,mnij,mnj->mn", difference, inverse, difference)
        log_det = outputs.log_cov.diagonal(dim1=-2, dim2=-1).sum(-1)
    else:
        eye = torch.eye(3, dtype=difference.dtype, device=difference.device)
        covariance = outputs.factor @ outputs.factor.transpose(-1, -2) + CHOLESKY_JITTER * eye
        lower, failed = torch.linalg.cholesky_ex(covariance)
        lower = torch.where(failed[..., None, None] > 0, torch.full_like(lower, float("nan")), lower)  # step is skipped
        white = torch.linalg.solve_triangular(lower, difference[..., None], upper=False)[..., 0]
        quadratic = (white**2).sum(-1)
        log_det = 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * (quadratic + log_det).mean(1)


def loss(outputs: Outputs, labels: Labels, head: str, training: TrainingConfig) -> Tensor:
    """Loss of every member (M,). The sum over members is what is differentiated."""
    d_energy = labels.energy - outputs.energy
    d_forces = labels.forces - outputs.forces
    detached = training.recipe == "detached" and head != "mse"
    e_weight, f_weight = training.energy_weight, training.force_weight

    mean_energy = squared(d_energy[..., None]) if head == "mse" or detached else energy_nll(d_energy, outputs.energy_var)
    mean_forces = squared(d_forces) if head != "joint" or detached else force_nll(d_forces, outputs)
    total = e_weight * mean_energy + f_weight * mean_forces
    if detached:
        total = total + e_weight * energy_nll(d_energy.detach(), outputs.energy_var)
        if head == "joint":
            total = total + f_weight * force_nll(d_forces.detach(), outputs)
    if training.stress_weight:
        total = total + training.stress_weight * stress_squared(outputs, labels)
    return total


def stress_squared(outputs: Outputs, labels: Labels) -> Tensor:
    """½ |Δσ|² (eV/Å³)², mean over the structures that have a stress label; zero if none has."""
    known = torch.isfinite(labels.virial).flatten(1).all(1) & (labels.volume > 0)
    if not known.any():
        return outputs.energy.new_zeros(len(outputs.energy))
    difference = (labels.virial - outputs.virial)[:, known] / labels.volume[known, None, None]
    return squared(difference.flatten(2))

