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
others         a posterior's own                        `race_calc.posterior`
============== ======================================== =============================
"""

from torch import Tensor

from race_calc.model.likelihood import Labels, energy_nll, force_nll, squared, stress_squared
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
