"""IVON: an optimiser whose state is a Gaussian over the weights. Torch only; every member is a row.

Shen et al. 2024 (arXiv:2402.17641), Algorithm 1: the posterior is q = N(m, σ²), σ² = 1/(λ(h + δ)), the prior
N(0, 1/(λδ)), and λ E_q[loss] + KL(q, prior) is minimised. So **λ · loss must be the negative log-likelihood of the
whole training set**: with a loss that is the mean over structures of the NLL summed over the atoms of each, λ = ess
is the number of structures; with a mean of ½d² over N errors of variance σ_d², ess = N/σ_d². Any other λ is a
tempered posterior.

========= ==================================================================================
symbol    variable
========= ==================================================================================
m, g, h   mean, momentum, hessian
θ, ε      the sample m + ε, noise ε = deviation(h) · standard normal
ĝ, ĥ      gradient of the loss at θ, curvature ĝ ε/σ² (reparametrisation trick)
λ, δ      ess, weight_decay
α, β₁, β₂ rate, BETA1, beta2
t         steps + 1, this step counted
========= ==================================================================================

h may fall below zero, but h + δ cannot: with x = (1 − β₂)(ĥ − h)/(h + δ) a step multiplies it by 1 + x + ½x² ≥ ½.
"""

import torch
from torch import Tensor

BETA1, CLIP = 0.9, 1.0


def deviation(hessian: Tensor, ess: float, weight_decay: float) -> Tensor:
    """σ = 1/√(λ(h + δ)), the shape of `hessian`."""
    return (ess * (hessian + weight_decay)).rsqrt()


def update(mean: Tensor, momentum: Tensor, hessian: Tensor, steps: Tensor, gradient: Tensor, noise: Tensor,
           rate: float | Tensor, ess: float, weight_decay: float, beta2: float,
           clip: float = CLIP) -> tuple[Tensor, Tensor, Tensor]:
    """One step: the next mean, momentum and hessian, (M, D) each.

    mean, momentum, hessian, gradient, noise: (M, D); the gradient is taken at mean + noise. steps: (M,) float64, those
    taken before this one. rate: a number or (M, 1).

        ĥ = ĝ ε λ(h + δ)
        g ← β₁ g + (1 − β₁) ĝ
        h ← β₂ h + (1 − β₂) ĥ + ½ (1 − β₂)² (h − ĥ)²/(h + δ)
        m ← m − α clip((g/(1 − β₁ᵗ) + δ m)/(h + δ)), with the new g and h

    `clip` bounds every element of the whole preconditioned direction, weight decay included, to ±clip before the rate
    multiplies it, so no weight moves more than rate · clip; neither the gradient nor ĥ is clipped. The published code
    multiplies its learning rate by hess_init + δ once; `rate` here is that product.
    """
    precision = hessian + weight_decay  # σ⁻²/λ
    change = (1 - beta2) * (gradient * noise * ess * precision - hessian)  # (1 − β₂)(ĥ − h)
    momentum = torch.lerp(gradient, momentum, BETA1)
    hessian = hessian + change + 0.5 * change.square() / precision
    correction = (1 - BETA1 ** (steps + 1)).to(mean.dtype)[:, None]
    direction = (momentum / correction + weight_decay * mean) / (hessian + weight_decay)
    return mean - rate * direction.clamp(-clip, clip), momentum, hessian


def sample(mean: Tensor, hessian: Tensor, ess: float, weight_decay: float, n: int, seed: int) -> Tensor:
    """n draws (n, D) from N(m, σ²) of one member, mean and hessian (D,)."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, len(mean), generator=generator, dtype=torch.float64).to(mean)
    return mean + deviation(hessian, ess, weight_decay) * z
