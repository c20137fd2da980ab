"""Shallow ensemble: many last layers on one trunk (Kellner & Ceriotti 2024), trained together on what they predict together."""

from torch import Tensor

from race_calc.model.likelihood import energy_nll, squared, stress_squared, whitened
from race_calc.model.outputs import Labels, Outputs
from race_calc.model.parameters import Parameters, unstacked
from race_calc.posterior.base import Basis, Fitted, Objective, Posterior
from race_calc.posterior.state import Trained, unflatten


def shallow_loss(outputs: Outputs, labels: Labels, objective: Objective) -> Tensor:
    """Loss (1,) of all last layers on one trunk: the likelihood of what they predict together.

    Energy: N(mean, variance between them + mean predicted variance). Forces: those of the mean energy and the mean
    predicted covariance; the forces of every last layer are not computed in training.
    """
    d_energy = labels.energy - outputs.energy.mean(0, keepdim=True)
    variance = outputs.energy.var(0, correction=0) + outputs.heads["energy_var"].mean(0)
    total = objective.energy_weight * energy_nll(d_energy, variance[None])
    d_forces = labels.forces - outputs.forces  # (1, N, 3)
    if spread := objective.plan.output("force_cov"):
        quadratic, log_det = whitened(d_forces, spread.covariance(outputs.heads["force_cov"]).mean(0, keepdim=True))
        total = total + objective.force_weight * 0.5 * (quadratic + log_det).mean(1)
    else:
        total = total + objective.force_weight * squared(d_forces)
    if objective.stress_weight:
        total = total + objective.stress_weight * stress_squared(outputs, labels)[:1]
    return total


class ShallowEnsemble(Posterior):
    name = "shallow-ensemble"
    heads = ("energy", "joint")
    recipes = ("joint",)  # its loss is its own
    independent = False
    many_last_layers = shared_trunk = True

    def stack(self, parameters: Parameters) -> Parameters:
        return unstacked(parameters)

    def loss(self, outputs: Outputs, labels: Labels, objective: Objective) -> Tensor:
        return shallow_loss(outputs, labels, objective)

    score = loss

    def parameter_sets(self, trained: Trained, basis: Basis) -> Fitted:
        return Fitted(unstacked(unflatten(trained.state.best, basis.shapes)), {})


POSTERIORS = (ShallowEnsemble(),)
