"""Likelihoods and squared errors, per member: pure functions of outputs and labels.

NLL_JEF = λ_E · NLL_energy + λ_F · NLL_force, with λ on the whole term, so that λ never moves the optimum
of a variance. Energy terms are means over structures (total energy), force terms means over atoms.

============== ======================================== =============================
method         formula                                  here
============== ======================================== =============================
likelihoods    see `race_calc.model.likelihood`
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

from torch import Tensor

from race_calc.model.likelihood import Labels, covariance, energy_nll, force_nll, squared, stress_squared, whitened
from race_calc.model.race import Outputs
from race_calc.train.config import TrainingConfig


BETA = 0.5


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
        quadratic, log_det = whitened(d_forces, covariance(outputs).mean(0, keepdim=True))
        total = total + training.force_weight * 0.5 * (quadratic + log_det).mean(1)
    else:
        total = total + training.force_weight * squared(d_forces)
    if training.stress_weight:
        total = total + training.stress_weight * stress_squared(outputs, labels)[:1]
    return total
