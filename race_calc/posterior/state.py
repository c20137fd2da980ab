"""The state of a stack in training: every member is a row and keeps its own counts."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

Shapes = dict[str, Sequence[int]]  # of each parameter of one member, in their order in a row of the stack


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


@dataclass(frozen=True)
class Trained:
    """What a training has come to: the stack, and what its posterior collected, a dataclass of tensors or None."""

    state: StackState
    collected: Any = None


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


def unflatten(flat: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """(M, D) → name → (M, …), as views. `flatten` is its inverse."""
    sizes = [torch.Size(shape).numel() for shape in shapes.values()]
    parts = flat.split(sizes, dim=1)
    return {name: part.view(len(flat), *shape) for (name, shape), part in zip(shapes.items(), parts)}


def flatten(parameters: Sequence[Tensor]) -> Tensor:
    return torch.cat([parameter.reshape(len(parameter), -1) for parameter in parameters], dim=1)
