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
β-NLL          energy NLL · ⌊σ²⌋^β, force NLL           `loss` with recipe `beta-nll`
               · ⌊det Σ⌋^(β/3), no gradient through
               ⌊ ⌋ (Seitzer et al. 2022), β = ½
of a mixture   energy NLL with mean and variance of     `shallow_loss`
               all last layers (Kellner & Ceriotti
               2024), force NLL with the mean Σ
============== ======================================== =============================
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from race_calc.model.heads import CHOLESKY_JITTER
from race_calc.model.race import Outputs
from race_calc.train.config import TrainingConfig


BETA = 0.5


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


def energy_nll(difference: Tensor, variance: Tensor, beta: float = 0.0) -> Tensor:
    """Mean over structures of the Gaussian NLL without ½ log 2π: (M, B), (M, B) eV² → (M,). `beta` of the β-NLL."""
    each = 0.5 * (difference**2 / variance + variance.log())
    return (each * variance.detach() ** beta if beta else each).mean(1)


def force_nll(difference: Tensor, outputs: Outputs, beta: float = 0.0) -> Tensor:
    """Mean over atoms of the 3-D Gaussian NLL without the constant: d (M, N, 3) eV/Å → (M,). `beta` of the β-NLL.

    For Σ = exp(S): Σ⁻¹ = exp(-S) and log det Σ = tr S; no decomposition is needed.
    """
    if outputs.log_cov is not None:
        inverse = torch.linalg.matrix_exp(-outputs.log_cov)
        quadratic = torch.einsum("mni,mnij,mnj->mn", difference, inverse, difference)
        log_det = outputs.log_cov.diagonal(dim1=-2, dim2=-1).sum(-1)
    else:
        quadratic, log_det = _whitened(difference, _covariance(outputs))
    each = 0.5 * (quadratic + log_det)
    return (each * (log_det.detach() * (beta / 3)).exp() if beta else each).mean(1)


def _covariance(outputs: Outputs) -> Tensor:
    """Σ (M, N, 3, 3) in (eV/Å)²."""
    if outputs.log_cov is not None:
        return torch.linalg.matrix_exp(outputs.log_cov)
    eye = torch.eye(3, dtype=outputs.factor.dtype, device=outputs.factor.device)
    return outputs.factor @ outputs.factor.transpose(-1, -2) + CHOLESKY_JITTER * eye


def _whitened(difference: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """dᵀ Σ⁻¹ d and log det Σ, (M, N) each; NaN where Σ is not positive definite, so that the step is skipped."""
    lower, failed = torch.linalg.cholesky_ex(covariance)
    lower = torch.where(failed[..., None, None] > 0, torch.full_like(lower, float("nan")), lower)
    white = torch.linalg.solve_triangular(lower, difference[..., None], upper=False)[..., 0]
    return (white**2).sum(-1), 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def loss(outputs: Outputs, labels: Labels, head: str, training: TrainingConfig) -> Tensor:
    """Loss of every member (M,). The sum over members is what is differentiated."""
    d_energy = labels.energy - outputs.energy
    d_forces = labels.forces - outputs.forces
    detached = training.recipe == "detached" and head != "mse"
    beta = BETA if training.recipe == "beta-nll" else 0.0
    e_weight, f_weight = training.energy_weight, training.force_weight

    mean_energy = squared(d_energy[..., None]) if head == "mse" or detached else energy_nll(d_energy, outputs.energy_var, beta)
    mean_forces = squared(d_forces) if head != "joint" or detached else force_nll(d_forces, outputs, beta)
    total = e_weight * mean_energy + f_weight * mean_forces
    if detached:
        total = total + e_weight * energy_nll(d_energy.detach(), outputs.energy_var)
        if head == "joint":
            total = total + f_weight * force_nll(d_forces.detach(), outputs)
    if training.stress_weight:
        total = total + training.stress_weight * stress_squared(outputs, labels)
    return total


def likelihood(outputs: Outputs, labels: Labels) -> Tensor:
    """Negative log-likelihood of a structure, mean over structures, of each member (M,): NLL of its energy plus the sum of
    the NLL of the forces on its atoms. No weights: times the number of structures it is that of the whole set."""
    d_forces = labels.forces - outputs.forces
    atoms_per_structure = d_forces.shape[1] / len(labels.energy)
    return energy_nll(labels.energy - outputs.energy, outputs.energy_var) + atoms_per_structure * force_nll(d_forces, outputs)


def shallow_loss(outputs: Outputs, labels: Labels, head: str, training: TrainingConfig) -> Tensor:
    """Loss (1,) of all last layers on one trunk: the likelihood of what they predict together.

    Energy: N(mean, variance between them + mean predicted variance). Forces: those of the mean energy and the mean
    predicted covariance; the forces of every last layer are not computed in training.
    """
    d_energy = labels.energy - outputs.energy.mean(0, keepdim=True)
    variance = outputs.energy.var(0, correction=0) + outputs.energy_var.mean(0)
    total = training.energy_weight * energy_nll(d_energy, variance[None])
    d_forces = labels.forces - outputs.forces  # (1, N, 3)
    if head == "joint":
        quadratic, log_det = _whitened(d_forces, _covariance(outputs).mean(0, keepdim=True))
        total = total + training.force_weight * 0.5 * (quadratic + log_det).mean(1)
    else:
        total = total + training.force_weight * squared(d_forces)
    if training.stress_weight:
        total = total + training.stress_weight * stress_squared(outputs, labels)[:1]
    return total


def stress_squared(outputs: Outputs, labels: Labels) -> Tensor:
    """½ |Δσ|² (eV/Å³)², mean over the structures that have a stress label; zero if none has."""
    known = torch.isfinite(labels.virial).flatten(1).all(1) & (labels.volume > 0)
    if not known.any():
        return outputs.virial.new_zeros(len(outputs.virial))
    difference = (labels.virial - outputs.virial)[:, known] / labels.volume[known, None, None]
    return squared(difference.flatten(2))

