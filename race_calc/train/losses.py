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

from race_calc.model.likelihood import energy_nll, squared, stress_squared, whitened
from race_calc.model.outputs import Labels, Outputs
from race_calc.model.plan import Plan
from race_calc.train.config import TrainingConfig


BETA = 0.5


def loss(outputs: Outputs, labels: Labels, plan: Plan, training: TrainingConfig) -> Tensor:
    """Loss of every member (M,). The sum over members is what is differentiated.

    Energies and forces learn from the likelihood of the spread that the head predicts for them, else from squared errors;
    other outputs have losses of their own.
    """
    detached = training.recipe == "detached"
    beta = BETA if training.recipe == "beta-nll" else 0.0
    d_energy, d_forces = labels.energy - outputs.energy, labels.forces - outputs.forces
    means, spreads = [], []
    for name, weight, difference, vectors in (("energy_var", training.energy_weight, d_energy, d_energy[..., None]),
                                              ("force_cov", training.force_weight, d_forces, d_forces)):
        spread, value = plan.output(name), outputs.heads.get(name)
        faithful = spread is None or detached
        means.append(weight * (squared(vectors) if faithful else spread.nll(difference, value, beta)))
        if spread is not None and detached:
            spreads.append(weight * spread.nll(difference.detach(), value))
    own = [output.loss(outputs.heads[output.name], labels) for output in plan.outputs]
    total = means[0] + means[1]
    for more in (*spreads, *own):
        total = total if more is None else total + more
    if training.stress_weight:
        total = total + training.stress_weight * stress_squared(outputs, labels)
    return total


def likelihood(outputs: Outputs, labels: Labels, plan: Plan) -> Tensor:
    """Negative log-likelihood of a structure, mean over structures, of each member (M,): NLL of its energy plus the sum of
    the NLL of the forces on its atoms. No weights: times the number of structures it is that of the whole set."""
    energy, forces = (plan.output(name).nll(difference, outputs.heads[name]) for name, difference in (
        ("energy_var", labels.energy - outputs.energy), ("force_cov", labels.forces - outputs.forces)))
    return energy + outputs.forces.shape[1] / len(labels.energy) * forces


def shallow_loss(outputs: Outputs, labels: Labels, plan: Plan, training: TrainingConfig) -> Tensor:
    """Loss (1,) of all last layers on one trunk: the likelihood of what they predict together.

    Energy: N(mean, variance between them + mean predicted variance). Forces: those of the mean energy and the mean
    predicted covariance; the forces of every last layer are not computed in training.
    """
    d_energy = labels.energy - outputs.energy.mean(0, keepdim=True)
    variance = outputs.energy.var(0, correction=0) + outputs.heads["energy_var"].mean(0)
    total = training.energy_weight * energy_nll(d_energy, variance[None])
    d_forces = labels.forces - outputs.forces  # (1, N, 3)
    if spread := plan.output("force_cov"):
        quadratic, log_det = whitened(d_forces, spread.covariance(outputs.heads["force_cov"]).mean(0, keepdim=True))
        total = total + training.force_weight * 0.5 * (quadratic + log_det).mean(1)
    else:
        total = total + training.force_weight * squared(d_forces)
    if training.stress_weight:
        total = total + training.stress_weight * stress_squared(outputs, labels)[:1]
    return total
