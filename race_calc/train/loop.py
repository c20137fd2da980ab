"""The training loop: all members in one run, resumable after every epoch to the same result."""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from race_calc.data.files import write_atomically
from race_calc.data.lock import locked
from race_calc.model.baseline import baseline_of, check
from race_calc.model.layout import Layout
from race_calc.model.outputs import Labels
from race_calc.model.parameters import Parameters
from race_calc.model.race import evaluate_surfaces
from race_calc.posterior.checkpoint import WEIGHTS
from race_calc.posterior.given import Plateau, Step
from race_calc.posterior.state import StackState, Trained, flatten, unflatten
from race_calc.train.config import TrainConfig, TrainingConfig
from race_calc.train.context import Context, context_of
from race_calc.train.files import BASELINE_FILE, STATE_FILE, append_log, load_state, save_state, trim_log
from race_calc.train.muon import muon_direction
from race_calc.train.optimiser import Pace, go_back, keep_best, update
from race_calc.train.prepare import Prepared
from race_calc.train.smoothness import prior_weight, roughness
from race_calc.train.validate import numbers, validate


@dataclass(frozen=True)
class Part:
    """Structures of one level of labels in a step."""

    layout: Layout
    labels: Labels
    high: bool = True
    weight: float = 1.0


Report = Callable[[dict], None]  # called after every step and every epoch
MOST_CHEAP = 4  # structures of the low level for each of the others in a step; of more, every epoch takes some
WARM_START = 0.5  # share of the epochs in which the mean learns from squared errors, recipe warm-start


def train(
    config: TrainConfig, prepared: Prepared, folder: Path, device: torch.device, resume: bool, report: Report = lambda record: None
) -> Trained:
    """Train the stack to its last state; `folder` holds state and log, and a lock while this runs.

    Order of the data: a permutation from (seed, epoch), the same for all members. Raises FileExistsError
    when the folder holds a run or a model and `resume` is not set, and what `load_state` and `locked` raise.
    """
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a guard for wrong code that costs a pass over memory
    context, epochs = context_of(config, prepared, device), config.training.epochs
    posterior = context.posterior
    with locked(folder):
        if resume:
            trained, done = load_state(folder, prepared.fingerprint, posterior, device)
            _check_baseline(context, prepared, folder)
        else:
            trained, done = _first_state(context, prepared, folder), 0
        trim_log(folder, done)
        for epoch in range(done, epochs):
            state, record = _epoch(context, trained.state, epoch, report)
            trained = Trained(state, posterior.collect(trained.collected, state, epoch + 1, epochs))
            append_log(folder, record)
            save_state(folder, trained, epoch + 1, prepared.fingerprint, posterior)
            report({"kind": "epoch", "epochs": epochs, **record})
    return trained


def _first_state(context: Context, prepared: Prepared, folder: Path) -> Trained:
    """Before the first step, saved."""
    if (folder / STATE_FILE).exists():
        raise FileExistsError(f"{folder} holds a training run: add --resume to continue it, or give another --out")
    if (folder / WEIGHTS).exists():
        raise FileExistsError(f"{folder} holds a finished model: give another --out")
    weights = flatten(list(prepared.parameters.values())).to(context.dtype).to(context.device)
    trained = Trained(context.posterior.initial_state(weights), context.posterior.empty_collection(weights))
    trim_log(folder, 0)
    if prepared.external is not None:
        write_atomically(folder / BASELINE_FILE, json.dumps(prepared.baseline).encode())
    save_state(folder, trained, 0, prepared.fingerprint, context.posterior)
    return trained


def _check_baseline(context: Context, prepared: Prepared, folder: Path) -> None:
    """Raises ValueError where the calculator of an external baseline is not the one that the run began with."""
    path, config = folder / BASELINE_FILE, context.model.plan.config
    if path.is_file():
        check(config.baseline, baseline_of(config.baseline, config.cutoff, prepared.external), json.loads(path.read_text()))


def _epoch(context: Context, state: StackState, epoch: int, report: Report) -> tuple[StackState, dict]:
    """One pass over the data and the validation after it: the new state and the line for the log."""
    settings, posterior = recipe_of_epoch(context.training, epoch), context.posterior
    context, good, started = replace(context, training=settings), state, time.perf_counter()
    order = np.random.default_rng([settings.seed, epoch]).permutation(np.repeat(np.arange(len(context.train)), context.repeats or 1))
    batches = [order[i : i + settings.batch_size] for i in range(0, len(order), settings.batch_size)]
    cheap = np.random.default_rng([settings.seed, epoch, 1]).permutation(len(context.low))
    low = np.array_split(cheap[: MOST_CHEAP * settings.batch_size * len(batches)], len(batches))
    sums = torch.zeros(len(state.weights), dtype=torch.float64)
    before = state.skipped
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
    for step, chosen in enumerate(batches):
        parts = [Part(*context.batch([context.train[i] for i in chosen], context.dtype))]
        if len(low[step]):
            examples = [context.low[i] for i in low[step]]
            parts.append(Part(*context.batch(examples, context.dtype), high=False, weight=context.low_weight))
        rate = learning_rate(settings, epoch + step / len(batches), posterior.plateau)

        def some(draws: Tensor, *rows: Tensor) -> tuple[Tensor, ...]:
            """Losses and new state of some members, from their rows of the state and of the last good one."""
            half = len(rows) // 2
            losses, new = one_step(context, parts, rate, StackState(*rows[:half]), draws)
            return losses, *go_back(new, StackState(*rows[half:])).tensors().values()

        draws = state.weights.new_empty(len(state.weights), 0)
        if posterior.random_steps:
            draws = torch.randn(state.weights.shape, generator=generator).to(state.weights)
        losses, *tensors = context.over_members(some, draws, *state.tensors().values(), *good.tensors().values())
        state = StackState(*tensors)
        sums += losses.double().cpu().nan_to_num(posinf=0.0, neginf=0.0)
        report(
            {
                "kind": "step",
                "epoch": epoch + 1,
                "step": step + 1,
                "steps": len(batches),
                "loss": float(losses.mean()),
                "skipped": int(state.skipped.sum()),
            }
        )
    scores, measured = validate(context, state.ema)
    return keep_best(state, scores.to(state.best_score), epoch + 1, settings.keep == "last"), {
        "epoch": epoch + 1,
        "train_loss": numbers(sums / (len(batches) - (state.skipped - before)).cpu()),
        "validation_score": numbers(scores),
        **measured,
        "learning_rate": learning_rate(settings, epoch + 1, posterior.plateau),
        "skipped_steps": state.skipped.tolist(),
        "seconds": round(time.perf_counter() - started, 3),
    }


def one_step(context: Context, parts: Sequence[Part], rate: float, old: StackState, draws: Tensor) -> tuple[Tensor, StackState]:
    """Losses (M,) and the new state of some members. Pure. `draws` as in `Step`; the optimiser is Muon."""
    pace = Pace(rate, context.training.clip_norm, context.training.ema_decay)

    def muon(state: StackState, losses: Tensor, gradients: Tensor) -> StackState:
        return update(state, gradients, losses, pace, partial(muon_direction, shapes=context.shapes))

    step = Step(lambda weights: gradients_of(context, weights, parts), muon, rate, len(context.train), draws)
    return context.posterior.step(old, step)


def gradients_of(context: Context, weights: Tensor, parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
    """Losses (M,) and gradients (M, D); each member's gradient is that of its own loss."""
    settings, config = context.training, context.model.plan.config
    leaves = {name: value.detach().requires_grad_() for name, value in unflatten(weights, context.shapes).items()}
    losses = torch.stack([part.weight * _loss(context, leaves, part) for part in parts]).sum(0)
    if weight := prior_weight(context.model.plan, settings):
        losses = losses + weight * roughness(leaves, config)
    gradients = torch.autograd.grad(losses.sum(), list(leaves.values()), materialize_grads=True, allow_unused=True)
    return losses.detach(), flatten(gradients).detach()  # torch 2.4 makes materialised zeros that require a gradient


def _loss(context: Context, leaves: Parameters, part: Part) -> Tensor:
    """(M,), of all surfaces."""
    each = context.alone
    labels = (part.labels, *part.labels.others)
    found = evaluate_surfaces(
        context.models,
        [one.stack(leaves, part.high) for one in each],
        part.layout,
        training=True,
        detached=context.training.recipe == "detached",
        with_forces=[known.has_forces for known in labels],
    )
    losses = [context.posterior.loss(outputs, known, one.objective) for outputs, known, one in zip(found, labels, each)]
    if len(losses) == 1:
        return losses[0]
    total = torch.stack(losses).sum(0)
    return total if context.posterior.adds_surfaces else total / len(losses)


def recipe_of_epoch(settings: TrainingConfig, epoch: int) -> TrainingConfig:
    """`warm-start` is `detached` for the first epochs and `joint` after them; the other recipes stay what they are."""
    if settings.recipe != "warm-start":
        return settings
    return settings.model_copy(update={"recipe": "detached" if epoch < WARM_START * settings.epochs else "joint"})


def learning_rate(settings: TrainingConfig, epoch: float, plateau: Plateau | None = None) -> float:
    """Linear warm-up, then constant or half a cosine to 1 % of the peak, or down to the plateau; `epoch` counts from 0,
    fractions allowed."""
    peak, warmup = settings.learning_rate, settings.warmup_epochs
    floor, last = (plateau.rate, max(plateau.start * settings.epochs, warmup)) if plateau else (0.01, settings.epochs)
    if epoch < warmup:
        return peak * (0.01 + 0.99 * epoch / warmup)
    if settings.schedule == "constant":
        return peak
    progress = (epoch - warmup) / (last - warmup) if last > warmup else float(plateau is not None)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))
