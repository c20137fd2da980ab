"""SWAG: a Gaussian over weights from the iterates of training. Torch only; a flat vector of D weights.

Maddox et al. 2019 (arXiv:1902.02476), Algorithm 1 and equation 1. The diagonal and the low-rank part are each
half of the covariance: for independent iterates the variances are right and the covariances are halved.

=========================== =====================================================================
symbol                      variable
=========================== =====================================================================
θ                           weights
θ̄, mean of θ²               mean, square
D̂ (a row for each column)   deviations
Σ_diag                      diagonal = max(square − mean², 0)
K                           held, the deviations collected so far, at most the rank
θ̃                           mean + (1/√2) Σ_diag^½ z₁ + (1/√(2(K−1))) D̂ z₂, z₁ and z₂ standard normal
=========================== =====================================================================
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from race_calc.posterior.base import Posterior
from race_calc.posterior.given import Basis, Fitted, Plateau
from race_calc.posterior.state import StackState, Trained, unflatten

RANK = 40  # deviations kept
PLATEAU = Plateau(start=0.4, rate=0.1)  # weights are collected on it


def empty(weights: Tensor, rank: int) -> "SwagState":
    """Nothing collected yet, for weights (D,) like these and the last `rank` deviations."""
    if rank < 2:
        raise ValueError(f"SWAG's rank is {rank}, but its covariance divides by rank − 1: take 2 or more (20 is usual)")
    return SwagState(
        mean=torch.zeros_like(weights, dtype=torch.float64),
        square=torch.zeros_like(weights, dtype=torch.float64),
        deviations=weights.new_zeros(rank, len(weights)),
        count=torch.zeros((), dtype=torch.int64, device=weights.device),
    )


def collect(state: "SwagState", weights: Tensor) -> "SwagState":
    """The state with one more iterate, weights (D,). Raises ValueError for another size and weights not finite."""
    if weights.shape != state.mean.shape:
        raise ValueError(
            f"weights have shape {tuple(weights.shape)}, SWAG's mean has {tuple(state.mean.shape)}: "
            "collect one flat vector of the same model"
        )
    if not bool(torch.isfinite(weights).all()):
        raise ValueError("weights are not finite and would spoil the moments for good: collect only after a good step")
    theta = weights.double()
    count = state.count + 1
    mean = state.mean + (theta - state.mean) / count  # (D,)
    square = state.square + (theta.square() - state.square) / count
    deviations = state.deviations.clone()  # (rank, D)
    deviations[int(state.count) % len(deviations)] = (theta - mean).to(deviations.dtype)
    return SwagState(mean, square, deviations, count)


@dataclass(frozen=True)
class SwagState:
    """What the iterates leave behind; tensors only. D weights, K = rank.

    ============ ======= ======== ==================================================================
    field        shape   dtype    meaning
    ============ ======= ======== ==================================================================
    mean         (D,)    float64  running mean of θ
    square       (D,)    float64  running mean of θ²; float64, because square − mean² cancels
    deviations   (K, D)  weights' ring of the last K deviations, θ − mean just after mean took θ in;
                                  iterate i is in row i mod K, rows not reached yet are zero
    count        ()      int64    iterates collected
    ============ ======= ======== ==================================================================
    """

    mean: Tensor
    square: Tensor
    deviations: Tensor
    count: Tensor


def sample(state: SwagState, n: int, seed: int) -> Tensor:
    """n draws (n, D) in the dtype of the weights. Raises ValueError when fewer than 2 iterates were collected."""
    held = min(int(state.count), len(state.deviations))
    if held < 2:
        raise ValueError(
            f"SWAG collected {held} iterate(s), a covariance needs 2 or more: "
            "train for more epochs, start collecting earlier or collect more often"
        )
    generator = torch.Generator().manual_seed(seed)
    z1 = torch.randn(n, len(state.mean), generator=generator, dtype=torch.float64).to(state.mean.device)
    z2 = torch.randn(n, held, generator=generator, dtype=torch.float64).to(state.mean.device)
    diagonal = (state.square - state.mean.square()).clamp(min=0.0)  # (D,)
    low_rank = z2 @ state.deviations[:held].double()  # (n, D)
    draws = state.mean + (diagonal / 2).sqrt() * z1 + low_rank / math.sqrt(2 * (held - 1))
    return draws.to(state.deviations.dtype)


class Swag(Posterior):
    name = "swag"
    recipes = ("joint", "detached", "beta-nll")  # its moments are those of one loss
    independent = False
    plateau = PLATEAU
    collection = SwagState
    keeps_best = False
    validation_use = "The weights are those of the last epochs."

    def check_training(self, epochs: int) -> None:
        if epochs < 4:
            raise ValueError("posterior swag collects weights in the last 60 % of the epochs: write training.epochs: 4 or more")

    def empty_collection(self, weights: Tensor) -> SwagState:
        return empty(weights[0], RANK)

    def collect(self, collected: SwagState, state: StackState, epoch: int, epochs: int) -> SwagState:
        return collect(collected, state.weights[0]) if epoch > PLATEAU.start * epochs else collected

    def parameter_sets(self, trained: Trained, basis: Basis) -> Fitted:
        draws = sample(trained.collected, basis.members, basis.seed)
        return Fitted(unflatten(draws, basis.shapes), {"collected": int(trained.collected.count), "seed": basis.seed})


POSTERIORS = (Swag(),)
