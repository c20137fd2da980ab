"""Momentum, gradient clipping and moving average for a stack: every member is a row and keeps its own counts."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from race_calc.posterior.state import StackState, accept

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
Adam = Callable[[slice], Tensor]  # Adam's direction (M, …) for some columns
Direction = Callable[[Tensor, Tensor, Tensor, Adam], Tensor]  # weights, gradient, momentum (M, D), Adam's → (M, D)
MAX_BAD_STEPS = 5  # in a row; then the member goes back to its last good state with half the learning rate


@dataclass(frozen=True)
class Pace:
    """Learning rate, longest gradient that is not scaled down, and decay of the moving average of the weights."""

    rate: float
    clip_norm: float
    ema_decay: float


def update(
    state: StackState,
    gradients: Tensor,
    losses: Tensor,
    pace: Pace,
    direction: Direction = lambda weights, gradient, momentum, adam: adam(slice(None)),
) -> StackState:
    """One step for every member whose loss (M,) and gradient (M, D) are finite.

    The gradient of each member is scaled down to `pace.clip_norm`. A member that is not finite keeps its
    state; the step is counted. `direction` chooses the way from weights, gradient, Nesterov's momentum and
    Adam's direction (Kingma & Ba 2015), which is the default.
    """
    norm = gradients.norm(dim=1)
    good = torch.isfinite(norm) & torch.isfinite(losses)
    scale = torch.clamp(pace.clip_norm / (norm + 1e-12), max=1.0)
    g = torch.where(good[:, None], gradients * scale[:, None], torch.zeros_like(gradients))
    steps = state.steps + good
    first = torch.lerp(state.first, g, 1 - BETA1)
    second = torch.addcmul(BETA2 * state.second, g, g, value=1 - BETA2)
    correction1 = (1 - BETA1**steps).clamp(min=1e-12).to(g.dtype)[:, None]
    correction2 = (1 - BETA2**steps).clamp(min=1e-12).to(g.dtype)[:, None]

    def adam(columns: slice) -> Tensor:
        return (first[:, columns] / correction1) / ((second[:, columns] / correction2).sqrt() + EPSILON)

    rate = (pace.rate * state.lr_factor).to(g.dtype)[:, None]
    weights = torch.addcmul(state.weights, direction(state.weights, g, torch.lerp(g, first, BETA1), adam), -rate)
    # the average starts like a plain mean, so that it forgets the random start
    decay = torch.minimum((steps + 1) / (steps + 10), torch.full_like(steps, pace.ema_decay)).to(g.dtype)[:, None]
    ema = torch.lerp(weights, state.ema, decay)

    return accept(state, good, weights=weights, ema=ema, first=first, second=second)


def go_back(state: StackState, good: StackState) -> StackState:
    """Members with MAX_BAD_STEPS bad steps in a row return to the state `good` with half the learning rate."""
    lost = state.bad_in_row >= MAX_BAD_STEPS
    if not bool(lost.any()):
        return state

    def pick(name: str) -> Tensor:
        new, old = getattr(state, name), getattr(good, name)
        return torch.where(lost.view(-1, *[1] * (new.dim() - 1)), old, new)

    return replace(
        state,
        **{name: pick(name) for name in ("weights", "ema", "first", "second", "steps")},
        lr_factor=torch.where(lost, state.lr_factor / 2, state.lr_factor),
        bad_in_row=torch.where(lost, torch.zeros_like(state.bad_in_row), state.bad_in_row),
    )


def keep_best(state: StackState, scores: Tensor, epoch: int, last: bool = False) -> StackState:
    """Remember the averages of the members whose validation score (M,) is the lowest so far; `last`: of all whose score is finite."""
    better = scores.isfinite() if last else scores < state.best_score
    return replace(
        state,
        best=torch.where(better[:, None], state.ema, state.best),
        best_score=torch.where(better, scores, state.best_score),
        best_epoch=torch.where(better, torch.full_like(state.best_epoch, epoch), state.best_epoch),
    )
