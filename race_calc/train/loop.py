"""The training loop: all members in one run, resumable after every epoch to the same result."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from race_calc.checkpoint import WEIGHTS
from race_calc.model.layout import Layout
from race_calc.model.race import evaluate
from race_calc.train.config import TrainConfig, TrainingConfig
from race_calc.train.files import STATE_FILE, append_log, load_state, save_state, trim_log
from race_calc.train.losses import Labels, loss
from race_calc.train.muon import muon_direction
from race_calc.train.optimiser import StackState, flatten, go_back, initial_state, keep_best, unflatten, update
from race_calc.train.smoothness import prior_weight, roughness
from race_calc.parallel import MemberMap, member_map
from race_calc.train.prepare import Prepared, batch_of

Shapes = dict[str, torch.Size]  # of each parameter of one member, in their order in a row of the stack
Report = Callable[[dict], None]  # called after every step and every epoch


def train(config: TrainConfig, prepared: Prepared, folder: Path, device: torch.device, resume: bool,
          report: Report = lambda record: None) -> StackState:
    """Train the stack and return its last state; `folder` holds state and log.

    Order of the data: a permutation from (seed, epoch), the same for all members. Raises FileExistsError
    when the folder holds a run or a model and `resume` is not set, and what `load_state` raises.
    """
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a guard for wrong code that costs a pass over memory
    settings = config.training
    dtype = getattr(torch, settings.dtype)
    shapes = {name: value.shape[1:] for name, value in prepared.parameters.items()}
    folder.mkdir(parents=True, exist_ok=True)
    if resume:
        state, done = load_state(folder, prepared.fingerprint, device)
        trim_log(folder, done)
    else:
        if (folder / STATE_FILE).exists():
            raise FileExistsError(f"{folder} holds a training run: add --resume to continue it, or give another --out")
        if (folder / WEIGHTS).exists():
            raise FileExistsError(f"{folder} holds a finished model: give another --out")
        state, done = initial_state(flatten(list(prepared.parameters.values())).to(dtype).to(device)), 0
        trim_log(folder, 0)
        save_state(folder, state, 0, prepared.fingerprint)

    over_members = member_map(config.members, device)
    for epoch in range(done, settings.epochs):
        state, record = _epoch(config, prepared, state, epoch, shapes, device, over_members, report)
        append_log(folder, record)
        save_state(folder, state, epoch + 1, prepared.fingerprint)
        report({"kind": "epoch", "epochs": settings.epochs, **record})
    return state


def _epoch(config: TrainConfig, prepared: Prepared, state: StackState, epoch: int, shapes: Shapes,
           device: torch.device, over_members: MemberMap, report: Report) -> tuple[StackState, dict]:
    """One pass over the data and the validation after it: the new state and the line for the log."""
    settings, good, started = config.training, state, time.perf_counter()
    dtype = getattr(torch, settings.dtype)
    order = np.random.default_rng([settings.seed, epoch]).permutation(len(prepared.train))
    batches = [order[i : i + settings.batch_size] for i in range(0, len(order), settings.batch_size)]
    sums = torch.zeros(config.members, dtype=torch.float64)
    before = state.skipped
    for step, chosen in enumerate(batches):
        batch = batch_of([prepared.train[i] for i in chosen], prepared.model, dtype, device)
        rate = learning_rate(settings, epoch + step / len(batches))

        def one_step(*rows: Tensor) -> tuple[Tensor, ...]:
            """Losses and new state of some members, from their rows of the state and of the last good one."""
            half = len(rows) // 2
            old, last_good = StackState(*rows[:half]), StackState(*rows[half:])
            losses, gradients = _gradients(config, prepared, old.weights, shapes, batch)
            new = update(old, gradients, losses, rate, settings.clip_norm, settings.ema_decay,
                         lambda *ways: muon_direction(*ways, shapes))
            return losses, *go_back(new, last_good).tensors().values()

        losses, *tensors = over_members(one_step, *state.tensors().values(), *good.tensors().values())
        state = StackState(*tensors)
        sums += losses.double().cpu().nan_to_num(posinf=0.0, neginf=0.0)
        report({"kind": "step", "epoch": epoch + 1, "step": step + 1, "steps": len(batches),
                "loss": float(losses.mean()), "skipped": int(state.skipped.sum())})
    scores, measured = validate(config, prepared, state.ema, shapes, device, over_members)
    return keep_best(state, scores.to(state.best_score), epoch + 1), {
        "epoch": epoch + 1,
        "train_loss": _numbers(sums / (len(batches) - (state.skipped - before)).cpu()),
        "validation_score": _numbers(scores),
        **measured,
        "learning_rate": learning_rate(settings, epoch + 1),
        "skipped_steps": state.skipped.tolist(),
        "seconds": round(time.perf_counter() - started, 3),
    }


def learning_rate(settings: TrainingConfig, epoch: float) -> float:
    """Linear warm-up, then constant or half a cosine to 1 % of the peak; `epoch` counts from 0, fractions allowed."""
    peak, warmup = settings.learning_rate, settings.warmup_epochs
    if epoch < warmup:
        return peak * (0.01 + 0.99 * epoch / warmup)
    if settings.schedule == "constant" or settings.epochs == warmup:
        return peak
    progress = (epoch - warmup) / (settings.epochs - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def _gradients(config: TrainConfig, prepared: Prepared, weights: Tensor, shapes: Shapes,
               batch: tuple[Layout, Labels]) -> tuple[Tensor, Tensor]:
    """Losses (M,) and gradients (M, D); each member's gradient is that of its own loss."""
    layout, labels = batch
    leaves = {name: value.detach().requires_grad_() for name, value in unflatten(weights, shapes).items()}
    detached = config.training.recipe == "detached"
    outputs = evaluate(prepared.model, leaves, layout, training=True, detached=detached)
    losses = loss(outputs, labels, config.model.head, config.training)
    if weight := prior_weight(config):
        losses = losses + weight * roughness(leaves, config.model)
    gradients = torch.autograd.grad(losses.sum(), list(leaves.values()), materialize_grads=True, allow_unused=True)
    return losses.detach(), flatten(gradients)


def validate(config: TrainConfig, prepared: Prepared, weights: Tensor, shapes: Shapes, device: torch.device,
             over_members: MemberMap) -> tuple[Tensor, dict]:
    """Scores (M,), lower is better, and root-mean-square errors of members and of their mean on the validation set.

    The score is the likelihood that the head describes (λ-weighted NLL); the force RMSE for the head `mse`.
    """
    settings = config.training.model_copy(update={"recipe": "joint"})
    nll = torch.zeros(config.members, dtype=torch.float64)
    energy, forces = [], []
    for start in range(0, len(prepared.validation), 10):
        examples = prepared.validation[start : start + 10]
        layout, labels = batch_of(list(examples), prepared.model, weights.dtype, device)

        def errors(rows: Tensor) -> tuple[Tensor, ...]:
            outputs = evaluate(prepared.model, unflatten(rows, shapes), layout)
            score = loss(outputs, labels, config.model.head, settings)
            return score.double(), (outputs.energy - labels.energy).double(), (outputs.forces - labels.forces).double()

        score, d_energy, d_forces = (result.cpu() for result in over_members(errors, weights))
        nll += score * len(examples)
        energy.append(d_energy)
        forces.append(d_forces)
    d_energy, d_forces = torch.cat(energy, dim=1), torch.cat(forces, dim=1)
    force_rmse = d_forces.pow(2).mean((1, 2)).sqrt()
    measured = {
        "energy_rmse_eV": _numbers(d_energy.pow(2).mean(1).sqrt()),
        "force_rmse_eV_per_A": _numbers(force_rmse),
        "mean_energy_rmse_eV": _numbers(d_energy.mean(0).pow(2).mean().sqrt()[None])[0],
        "mean_force_rmse_eV_per_A": _numbers(d_forces.mean(0).pow(2).mean().sqrt()[None])[0],
    }
    scores = force_rmse if config.model.head == "mse" else nll / len(prepared.validation)
    return torch.where(torch.isfinite(scores), scores, torch.full_like(scores, float("inf"))), measured


def _numbers(values: Tensor) -> list[float | None]:
    """Rounded for the log; None, in JSON null, where a number is not finite."""
    return [round(value, 6) if math.isfinite(value) else None for value in values.tolist()]
