"""Shallow ensemble: many last layers on one trunk (Kellner & Ceriotti 2024), trained together on what they predict together."""

import torch
from torch import Tensor

from race_calc.model.likelihood import FORCES, STRESSES, gaussian_nll, whitened
from race_calc.model.log_covariance import LogCovariance
from race_calc.model.outputs import Labels, Outputs
from race_calc.model.parameters import Parameters, unstacked
from race_calc.model.plan import Plan
from race_calc.posterior.base import Posterior
from race_calc.posterior.given import Basis, Fitted, Objective
from race_calc.posterior.state import Trained, unflatten


def together(outputs: Outputs, labels: Labels, plan: Plan) -> dict[str, tuple[Tensor, Tensor]]:
    """dᵀ Σ⁻¹ d and log det Σ, (1, n) each, of what all last layers on one trunk predict together, for each spread by its name.

    Energy: variance between them + mean predicted variance. Forces: the mean predicted covariance around the forces of the
    mean energy; the forces of every last layer are not computed in training.
    """
    d_energy = labels.energy - outputs.energy.mean(0, keepdim=True)
    variance = (outputs.energy.var(0, correction=0) + outputs.heads["energy_var"].mean(0))[None]
    if not labels.has_energy:
        known = torch.isfinite(labels.energy)
        d_energy, variance = d_energy[:, known], variance[:, known]
    found = {"energy_var": (d_energy**2 / variance, variance.log())} if d_energy.shape[1] else {}
    spread = plan.output("force_cov")
    if spread and labels.has_forces:
        covariance = spread.covariance(outputs.heads["force_cov"]).mean(0, keepdim=True)
        if isinstance(spread, LogCovariance):  # labels that are zero by symmetry; a triangle has its noise
            covariance = covariance + spread.noise * torch.eye(3).to(covariance)
        found["force_cov"] = whitened(labels.forces - outputs.forces, covariance)
    return found


def shallow_loss(outputs: Outputs, labels: Labels, objective: Objective) -> Tensor:
    """Loss (1,) of all last layers: the likelihood of what they predict together; forces without a spread by squared errors."""
    parts = together(outputs, labels, objective.plan)
    energy = gaussian_nll(*parts["energy_var"], 1) if "energy_var" in parts else outputs.energy.sum() * 0.0 + outputs.energy.new_zeros(1)
    total = objective.energy_weight * energy
    if "force_cov" in parts:
        total = total + objective.force_weight * gaussian_nll(*parts["force_cov"], 3)
    else:
        total = total + objective.force_weight * FORCES.squares(outputs, labels)
    if objective.stress_weight:
        total = total + objective.stress_weight * STRESSES.squares(outputs, labels)[:1]
    return total


class ShallowEnsemble(Posterior):
    name = "shallow-ensemble"
    heads = ("energy", "joint")
    recipes = ("joint",)  # its loss is its own
    independent = False
    many_last_layers = shared_trunk = True
    two_levels = False

    def stack(self, parameters: Parameters) -> Parameters:
        return unstacked(parameters)

    def loss(self, outputs: Outputs, labels: Labels, objective: Objective) -> Tensor:
        return shallow_loss(outputs, labels, objective)

    score = loss

    def quadratics(self, outputs: Outputs, labels: Labels, plan: Plan) -> dict[str, Tensor]:
        return {name: 0.5 * quadratic.mean(1) for name, (quadratic, _) in together(outputs, labels, plan).items()}

    def parameter_sets(self, trained: Trained, basis: Basis) -> Fitted:
        return Fitted(unstacked(unflatten(trained.state.best, basis.shapes)), {})


POSTERIORS = (ShallowEnsemble(),)
