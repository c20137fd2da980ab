"""Momentum, gradient clipping and moving average for a stack: every member is a row and keeps its own counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
Adam = Callable[[slice], Tensor]  # Adam's direction (M, …) for some columns
Direction = Callable[[Tensor, Tensor, Tensor, Adam], Tensor]  # weights, gradient, momentum (M, D), Adam's → (M, D)
MAX_BAD_STEPS = 5  # in a row; then the member goes back to its last good state with half the learning rate


@dataclass(frozen=True)
class StackState:
    """Everything that a step changes. M members with D parameters each.

    ============ ======= ====================================================================
    field        shape   meaning
    ============ ======= ====================================================================
    weights      (M, D)  current parameters, flattened in the order of `parameter_shapes`
    ema          (M, D)  their exponential moving average
    first        (M, D)  Adam's first moment
    second       (M, D)  Adam's second moment
    steps        (M,)    good steps so far (float64)
    lr_factor    (M,)    1, halved at every return to a good state (float64)
    bad_in_row   (M,)    skipped steps in a row (int64)
    skipped      (M,)    skipped steps in all (int64)
    best         (M, D)  average with the lowest validation score
    best_score   (M,)    that score (float64)
    best_epoch   (M,)    its epoch, -1 before the first (int64)
    ============ ======= ====================================================================
    """

    weights: Tensor
    ema: Tensor
    first: Tensor
    second: Tensor
    steps: Tensor
    lr_factor: Tensor
    bad_in_row: Tensor
    skipped: Tensor
    best: Tensor
    best_score: Tensor
    best_epoch: Tensor

    def tensors(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def initial_state(weights: Tensor) -> StackState:
    members = len(weights)
    return StackState(
        weights=weights,
        ema=weights.clone(),
        first=torch.zeros_like(weights),
        second=torch.zeros_like(weights),
        steps=weights.new_zeros(members, dtype=torch.float64),
        lr_factor=weights.new_ones(members, dtype=torch.float64),
        bad_in_row=weights.new_zeros(members, dtype=torch.int64),
        skipped=weights.new_zeros(members, dtype=torch.int64),
        best=weights.clone(),
        best_score=weights.new_full((members,), float("inf"), dtype=torch.float64),
        best_epoch=weights.new_full((members,), -1, dtype=torch.int64),
    )


def update(state: StackState, gradients: Tensor, losses: Tensor, learning_rate: float, clip_norm: float,
           ema_decay: float, direction: Direction = lambda weights, gradient, momentum, adam: adam(slice(None))) -> StackState:
    """One step for every member whose loss (M,) and gradient (M, D) are finite.

    The gradient of each member is scaled down to `clip_norm`. A member that is not finite keeps its
    state; the step is counted. `direction` chooses the way from weights, gradient, Nesterov's momentum and
    Adam's direction (Kingma & Ba 2015), which is the default.
    """
    norm = gradients.norm(dim=1)
    good = torch.isfinite(norm) & torch.isfinite(losses)
    scale = torch.clamp(clip_norm / (norm + 1e-12), max=1.0)
    g = torch.where(good[:, None], gradients * scale[:, None], torch.zeros_like(gradients))
    steps = state.steps + good
    first = torch.lerp(state.first, g, 1 - BETA1)
    second = torch.addcmul(BETA2 * state.second, g, g, value=1 - BETA2)
    correction1 = (1 - BETA1**steps).clamp(min=1e-12).to(g.dtype)[:, None]
    correction2 = (1 - BETA2**steps).clamp(min=1e-12).to(g.dtype)[:, None]

    def adam(columns: slice) -> Tensor:
        return (first[:, columns] / correction1) / ((second[:, columns] / correction2).sqrt() + EPSILON)

    rate = (learning_rate * state.lr_factor).to(g.dtype)[:, None]
    weights = torch.addcmul(state.weights, direction(state.weights, g, torch.lerp(g, first, BETA1), adam), -rate)
    # the average starts like a plain mean, so that it forgets the random start
    decay = torch.minimum((steps + 1) / (steps + 10), torch.full_like(steps, ema_decay)).to(g.dtype)[:, None]
    ema = torch.lerp(weights, state.ema, decay)

    return accept(state, good, weights=weights, ema=ema, first=first, second=second)


def accept(state: StackState, good: Tensor, **new: Tensor) -> StackState:
    """The state with the `new` tensors (M, D) of the members whose step was `good` (M,); every step is counted."""
    whole = bool(good.all())
    kept = {name: value if whole else torch.where(good[:, None], value, getattr(state, name)) for name, value in new.items()}
    return replace(
        state,
        **kept,
        steps=state.steps + good,
        bad_in_row=torch.where(good, torch.zeros_like(state.bad_in_row), state.bad_in_row + 1),
        skipped=state.skipped + (~good).to(torch.int64),
    )


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


def keep_best(state: StackState, scores: Tensor, epoch: int) -> StackState:
    """Remember the averages of the members whose validation score (M,) is the lowest so far."""
    better = scores < state.best_score
    return replace(
        state,
        best=torch.where(better[:, None], state.ema, state.best),
        best_score=torch.where(better, scores, state.best_score),
        best_epoch=torch.where(better, torch.full_like(state.best_epoch, epoch), state.best_epoch),
    )


def unflatten(flat: Tensor, shapes: dict[str, Sequence[int]]) -> dict[str, Tensor]:
    """(M, D) → name → (M, …), as views. `flatten` is its inverse."""
    sizes = [torch.Size(shape).numel() for shape in shapes.values()]
    parts = flat.split(sizes, dim=1)
    return {name: part.view(len(flat), *shape) for (name, shape), part in zip(shapes.items(), parts)}


def flatten(parameters: Sequence[Tensor]) -> Tensor:
    return torch.cat([parameter.reshape(len(parameter), -1) for parameter in parameters], dim=1)
