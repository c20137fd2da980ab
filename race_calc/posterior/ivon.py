"""IVON: an optimiser whose state is a Gaussian over the weights. Torch only; every member is a row.

Shen et al. 2024 (arXiv:2402.17641), Algorithm 1: the posterior is q = N(m, σ²), σ² = 1/(λ(h + δ)), the prior
N(0, 1/(λδ)), and λ E_q[loss] + KL(q, prior) is minimised. So **λ · loss must be the negative log-likelihood of the
whole training set**: with a loss that is the mean over structures of the NLL summed over the atoms of each, λ = ess
is the number of structures; with a mean of ½d² over N errors of variance σ_d², ess = N/σ_d². Any other λ is a
tempered posterior.

========= ==================================================================================
symbol    variable
========= ==================================================================================
m, g, h   mean, momentum, hessian of a `Gaussian`
θ, ε      the sample m + ε, noise ε = deviation(h) · standard normal
ĝ, ĥ      gradient of the loss at θ, curvature ĝ ε/σ² (reparametrisation trick)
λ, δ      ess, weight_decay of the `Scales`
α, β₁, β₂ rate, BETA1, beta2 of the `Scales`
t         steps + 1, this step counted
========= ==================================================================================

h may fall below zero, but h + δ cannot: with x = (1 − β₂)(ĥ − h)/(h + δ) a step multiplies it by 1 + x + ½x² ≥ ½.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from race_calc.model.likelihood import ENERGIES, FORCES
from race_calc.model.outputs import Labels, Outputs
from race_calc.model.plan import Plan
from race_calc.posterior.base import Posterior
from race_calc.posterior.given import Basis, Fitted, Objective, Step
from race_calc.posterior.state import StackState, Trained, accept, initial_state, unflatten

BETA1, CLIP = 0.9, 1.0
HESSIAN = 0.5  # h at the start, as the paper has it
RATE = 10.0  # times the learning rate: IVON divides gradients by curvatures of about one
BETA2 = 0.9999  # the paper's 0.999995 needs some million steps to find the curvature


@dataclass(frozen=True)
class Gaussian:
    """Where IVON is: mean, momentum, hessian (M, D), and the steps taken (M,) float64."""

    mean: Tensor
    momentum: Tensor
    hessian: Tensor
    steps: Tensor


@dataclass(frozen=True)
class Scales:
    """λ, δ, β₂, and the bound of every element of the whole preconditioned direction, weight decay included."""

    ess: float
    weight_decay: float
    beta2: float
    clip: float = CLIP


def deviation(hessian: Tensor, ess: float, weight_decay: float) -> Tensor:
    """σ = 1/√(λ(h + δ)), the shape of `hessian`."""
    return (ess * (hessian + weight_decay)).rsqrt()


def update(q: Gaussian, gradient: Tensor, noise: Tensor, rate: float | Tensor, scales: Scales) -> tuple[Tensor, Tensor, Tensor]:
    """One step: the next mean, momentum and hessian, (M, D) each.

    gradient, noise: (M, D); the gradient is taken at mean + noise. rate: a number or (M, 1).

        ĥ = ĝ ε λ(h + δ)
        g ← β₁ g + (1 − β₁) ĝ
        h ← β₂ h + (1 − β₂) ĥ + ½ (1 − β₂)² (h − ĥ)²/(h + δ)
        m ← m − α clip((g/(1 − β₁ᵗ) + δ m)/(h + δ)), with the new g and h

    The direction is clipped before the rate multiplies it, so no weight moves more than rate · clip; neither the gradient
    nor ĥ is clipped. The published code multiplies its learning rate by hess_init + δ once; `rate` here is that product.
    """
    precision = q.hessian + scales.weight_decay  # σ⁻²/λ
    change = (1 - scales.beta2) * (gradient * noise * scales.ess * precision - q.hessian)  # (1 − β₂)(ĥ − h)
    momentum = torch.lerp(gradient, q.momentum, BETA1)
    hessian = q.hessian + change + 0.5 * change.square() / precision
    correction = (1 - BETA1 ** (q.steps + 1)).to(q.mean.dtype)[:, None]
    direction = (momentum / correction + scales.weight_decay * q.mean) / (hessian + scales.weight_decay)
    return q.mean - rate * direction.clamp(-scales.clip, scales.clip), momentum, hessian


def sample(mean: Tensor, hessian: Tensor, ess: float, weight_decay: float, n: int, seed: int) -> Tensor:
    """n draws (n, D) from N(m, σ²) of one member, mean and hessian (D,)."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, len(mean), generator=generator, dtype=torch.float64).to(mean)
    return mean + deviation(hessian, ess, weight_decay) * z


def scales_of(structures: int) -> Scales:
    """The loss is a mean over the structures; the prior is N(0, 1), from which weights are drawn."""
    return Scales(float(structures), 1.0 / structures, BETA2)


def likelihood(outputs: Outputs, labels: Labels, plan: Plan) -> Tensor:
    """Negative log-likelihood of a structure, mean over structures, of each member (M,): NLL of its energy plus the sum of
    the NLL of the forces on its atoms. No weights: times the number of structures it is that of the whole set."""
    energy, forces = (
        plan.output(quantity.spread).nll(*known) if (known := quantity.with_spread(outputs, labels)) else outputs.energy.new_zeros(())
        for quantity in (ENERGIES, FORCES)
    )
    return energy + outputs.forces.shape[1] / len(labels.energy) * forces


class Ivon(Posterior):
    """In the state, weights and ema are the mean, first is the momentum and second the curvature."""

    name = "ivon"
    heads = recipes = ("joint",)  # its loss must be a likelihood
    independent = False
    random_steps = True
    two_levels = False
    keeps_best = False
    learns_stress = False  # its likelihood has none
    adds_surfaces = True
    validation_use = "The weights are those of the last step."

    def initial_state(self, weights: Tensor) -> StackState:
        return replace(initial_state(weights), second=torch.full_like(weights, HESSIAN))

    def loss(self, outputs: Outputs, labels: Labels, objective: Objective) -> Tensor:
        return likelihood(outputs, labels, objective.plan)

    def step(self, old: StackState, step: Step) -> tuple[Tensor, StackState]:
        """No weight moves more than the rate (CLIP), so gradients are not scaled down, which would hide the curvature; a step
        that is not finite is left out."""
        scales = scales_of(step.structures)
        noise = deviation(old.second, scales.ess, scales.weight_decay) * step.draws
        losses, gradients = step.gradients(old.weights + noise)
        good = torch.isfinite(gradients.norm(dim=1)) & torch.isfinite(losses)
        speed = (step.rate * RATE * old.lr_factor).to(gradients)[:, None]
        now = Gaussian(old.weights, old.first, old.second, old.steps)
        mean, momentum, curvature = update(now, gradients, noise, speed, scales)
        return losses, accept(old, good, weights=mean, ema=mean.clone(), first=momentum, second=curvature)

    def parameter_sets(self, trained: Trained, basis: Basis) -> Fitted:
        state, scales = trained.state, scales_of(len(basis.train))
        draws = sample(state.weights[0], state.second[0], scales.ess, scales.weight_decay, basis.members, basis.seed)
        left = HESSIAN * BETA2 ** float(state.steps[0]) / float(state.second[0].median())
        record = {
            "ess": scales.ess,
            "weight_decay": scales.weight_decay,
            "seed": basis.seed,
            "share_of_the_start_in_the_median_curvature": left,
        }
        return Fitted(unflatten(draws, basis.shapes), record)


POSTERIORS = (Ivon(),)
