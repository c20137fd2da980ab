"""One optimisation step of some members, for each way to train. Pure: old state and batch in, losses and new state out."""

import torch
from torch import Tensor

from race_calc.model.layout import Layout
from race_calc.model.parameters import unstacked
from race_calc.model.race import Outputs, evaluate
from race_calc.posterior import ivon
from race_calc.train.config import TrainConfig, TrainingConfig
from race_calc.train.losses import Labels, likelihood, loss, shallow_loss
from race_calc.train.muon import muon_direction
from race_calc.train.optimiser import StackState, accept, flatten, unflatten, update
from race_calc.train.prepare import Prepared
from race_calc.train.smoothness import prior_weight, roughness

Shapes = dict[str, torch.Size]  # of each parameter of one member, in their order in a row of the stack
Batch = tuple[Layout, Labels]

IVON_HESSIAN = 0.5  # h at the start, as the paper has it
IVON_RATE = 10.0  # times the learning rate: IVON divides gradients by curvatures of about one
IVON_BETA2 = 0.9999  # the paper's 0.999995 needs some million steps to find the curvature


def muon_step(config: TrainConfig, settings: TrainingConfig, prepared: Prepared, shapes: Shapes, batch: Batch, rate: float,
              old: StackState) -> tuple[Tensor, StackState]:
    """Losses (M,) and the new state. `settings`: those of the configuration with the recipe of this epoch."""
    losses, gradients = gradients_of(config, settings, prepared, old.weights, shapes, batch)
    new = update(old, gradients, losses, rate, settings.clip_norm, settings.ema_decay, lambda *ways: muon_direction(*ways, shapes))
    return losses, new


def ivon_step(config: TrainConfig, settings: TrainingConfig, prepared: Prepared, shapes: Shapes, batch: Batch, rate: float,
              old: StackState, draws: Tensor) -> tuple[Tensor, StackState]:
    """The same for IVON; `draws` (M, D) standard normal. In the state, weights and ema are the mean, first is the momentum
    and second the curvature. No weight moves more than the rate (`ivon.CLIP`), so gradients are not scaled down, which would
    hide the curvature; a step that is not finite is left out."""
    ess, decay = ivon_scales(len(prepared.train))
    noise = ivon.deviation(old.second, ess, decay) * draws
    losses, gradients = gradients_of(config, settings, prepared, old.weights + noise, shapes, batch)
    good = torch.isfinite(gradients.norm(dim=1)) & torch.isfinite(losses)
    speed = (rate * IVON_RATE * old.lr_factor).to(gradients)[:, None]
    mean, momentum, curvature = ivon.update(
        old.weights, old.first, old.second, old.steps, gradients, noise, speed, ess, decay, IVON_BETA2
    )

    return losses, accept(old, good, weights=mean, ema=mean.clone(), first=momentum, second=curvature)


def ivon_scales(structures: int) -> tuple[float, float]:
    """ess and weight decay: the loss is a mean over the structures; the prior is N(0, 1), from which weights are drawn."""
    return float(structures), 1.0 / structures


def gradients_of(config: TrainConfig, settings: TrainingConfig, prepared: Prepared, weights: Tensor, shapes: Shapes,
                 batch: Batch) -> tuple[Tensor, Tensor]:
    """Losses (M,) and gradients (M, D); each member's gradient is that of its own loss."""
    layout, labels = batch
    leaves = {name: value.detach().requires_grad_() for name, value in unflatten(weights, shapes).items()}
    stack = unstacked(leaves) if config.posterior == "shallow-ensemble" else leaves
    outputs = evaluate(prepared.model, stack, layout, training=True, detached=settings.recipe == "detached")
    losses = _loss(config, settings, outputs, labels)
    if weight := prior_weight(config.model.head, settings):
        losses = losses + weight * roughness(leaves, config.model)
    gradients = torch.autograd.grad(losses.sum(), list(leaves.values()), materialize_grads=True, allow_unused=True)
    return losses.detach(), flatten(gradients).detach()  # torch 2.4 makes materialised zeros that require a gradient


def _loss(config: TrainConfig, settings: TrainingConfig, outputs: Outputs, labels: Labels) -> Tensor:
    if config.posterior == "shallow-ensemble":
        return shallow_loss(outputs, labels, config.model.head, settings)
    if config.posterior == "ivon":
        return likelihood(outputs, labels)
    return loss(outputs, labels, config.model.head, settings)
