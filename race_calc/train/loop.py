"""The training loop: all members in one run, resumable after every epoch to the same result."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from race_calc.checkpoint import WEIGHTS
from race_calc.model.parameters import LAST_LAYER, unstacked
from race_calc.model.race import evaluate
from race_calc.posterior import swag
from race_calc.train.config import TrainConfig, TrainingConfig
from race_calc.train.files import STATE_FILE, Trained, append_log, load_state, save_state, trim_log
from race_calc.train.losses import loss, shallow_loss
from race_calc.posterior.state import StackState, flatten, initial_state, unflatten
from race_calc.train.optimiser import go_back, keep_best
from race_calc.parallel import MemberMap, member_map
from race_calc.posterior.batch import batch_of
from race_calc.train.prepare import Prepared
from race_calc.train.steps import IVON_HESSIAN, Shapes, ivon_step, muon_step

Report = Callable[[dict], None]  # called after every step and every epoch
SWAG_START, SWAG_RANK = 0.4, 40  # share of the epochs before the first weights are collected; deviations kept
SWAG_RATE = 0.1  # of the peak: the constant learning rate at which SWAG collects
WARM_START = 0.5  # share of the epochs in which the mean learns from squared errors, recipe warm-start


def train(config: TrainConfig, prepared: Prepared, folder: Path, device: torch.device, resume: bool,
          report: Report = lambda record: None) -> Trained:
    """Train the stack to its last state; `folder` holds state and log.

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
        trained, done = load_state(folder, prepared.fingerprint, device)
        trim_log(folder, done)
    else:
        if (folder / STATE_FILE).exists():
            raise FileExistsError(f"{folder} holds a training run: add --resume to continue it, or give another --out")
        if (folder / WEIGHTS).exists():
            raise FileExistsError(f"{folder} holds a finished model: give another --out")
        state, done = initial_state(flatten(list(prepared.parameters.values())).to(dtype).to(device)), 0
        if config.posterior == "ivon":
            state = replace(state, second=torch.full_like(state.second, IVON_HESSIAN))
        trained = Trained(state, swag.empty(state.weights[0], SWAG_RANK) if config.posterior == "swag" else None)
        trim_log(folder, 0)
        save_state(folder, trained, 0, prepared.fingerprint)

    over_members = member_map(config.trained, device)
    for epoch in range(done, settings.epochs):
        state, record = _epoch(config, prepared, trained.state, epoch, shapes, device, over_members, report)
        collected = trained.collected
        if collected is not None and epoch + 1 > SWAG_START * settings.epochs:
            collected = swag.collect(collected, state.weights[0])
        trained = Trained(state, collected)
        append_log(folder, record)
        save_state(folder, trained, epoch + 1, prepared.fingerprint)
        report({"kind": "epoch", "epochs": settings.epochs, **record})
    return trained


def _epoch(config: TrainConfig, prepared: Prepared, state: StackState, epoch: int, shapes: Shapes,
           device: torch.device, over_members: MemberMap, report: Report) -> tuple[StackState, dict]:
    """One pass over the data and the validation after it: the new state and the line for the log."""
    settings, good, started = recipe_of_epoch(config.training, epoch), state, time.perf_counter()
    dtype = getattr(torch, settings.dtype)
    order = np.random.default_rng([settings.seed, epoch]).permutation(len(prepared.train))
    batches = [order[i : i + settings.batch_size] for i in range(0, len(order), settings.batch_size)]
    sums = torch.zeros(config.trained, dtype=torch.float64)
    before = state.skipped
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
    for step, chosen in enumerate(batches):
        batch = batch_of([prepared.train[i] for i in chosen], prepared.model, dtype, device)
        rate = learning_rate(settings, epoch + step / len(batches), config.posterior == "swag")
        common = config, settings, prepared, shapes, batch, rate

        def one_step(draws: Tensor, *rows: Tensor) -> tuple[Tensor, ...]:
            """Losses and new state of some members, from their rows of the state and of the last good one."""
            half = len(rows) // 2
            old, last_good = StackState(*rows[:half]), StackState(*rows[half:])
            if config.posterior == "ivon":
                losses, new = ivon_step(*common, old, draws)
            else:
                losses, new = muon_step(*common, old)
            return losses, *go_back(new, last_good).tensors().values()

        draws = state.weights.new_empty(config.trained, 0)
        if config.posterior == "ivon":
            draws = torch.randn(state.weights.shape, generator=generator).to(state.weights)
        losses, *tensors = over_members(one_step, draws, *state.tensors().values(), *good.tensors().values())
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
        "learning_rate": learning_rate(settings, epoch + 1, config.posterior == "swag"),
        "skipped_steps": state.skipped.tolist(),
        "seconds": round(time.perf_counter() - started, 3),
    }


def recipe_of_epoch(settings: TrainingConfig, epoch: int) -> TrainingConfig:
    """`warm-start` is `detached` for the first epochs and `joint` after them; the other recipes stay what they are."""
    if settings.recipe != "warm-start":
        return settings
    return settings.model_copy(update={"recipe": "detached" if epoch < WARM_START * settings.epochs else "joint"})


def learning_rate(settings: TrainingConfig, epoch: float, collects: bool = False) -> float:
    """Linear warm-up, then constant or half a cosine to 1 % of the peak; `epoch` counts from 0, fractions allowed.

    `collects`: half a cosine to SWAG_RATE of the peak where SWAG begins to collect weights, constant from there on.
    """
    peak, warmup = settings.learning_rate, settings.warmup_epochs
    floor, last = (SWAG_RATE, max(SWAG_START * settings.epochs, warmup)) if collects else (0.01, settings.epochs)
    if epoch < warmup:
        return peak * (0.01 + 0.99 * epoch / warmup)
    if settings.schedule == "constant":
        return peak
    progress = (epoch - warmup) / (last - warmup) if last > warmup else float(collects)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))))


def validate(config: TrainConfig, prepared: Prepared, weights: Tensor, shapes: Shapes, device: torch.device,
             over_members: MemberMap) -> tuple[Tensor, dict]:
    """Scores (M,), lower is better, and root-mean-square errors of members and of their mean on the validation set.

    The score is the likelihood that the head describes (λ-weighted NLL); the force RMSE for the head `mse`.
    """
    settings = config.training.model_copy(update={"recipe": "joint"})
    shallow = len(shapes[LAST_LAYER]) == 3  # a mean and deviations of every last layer
    nll = torch.zeros(len(weights), dtype=torch.float64)
    energy, forces = [], []
    for start in range(0, len(prepared.validation), 10):
        examples = prepared.validation[start : start + 10]
        layout, labels = batch_of(list(examples), prepared.model, weights.dtype, device)

        def errors(rows: Tensor) -> tuple[Tensor, ...]:
            parameters = unflatten(rows, shapes)
            outputs = evaluate(prepared.model, unstacked(parameters) if shallow else parameters, layout)
            score = (shallow_loss if shallow else loss)(outputs, labels, prepared.model.plan, settings)
            energy = outputs.energy.mean(0, keepdim=True) if shallow else outputs.energy
            return score.double(), (energy - labels.energy).double(), (outputs.forces - labels.forces).double()

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
