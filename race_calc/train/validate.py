"""Scores and errors of a stack on the validation structures."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from race_calc.model.hardware import member_map
from race_calc.model.likelihood import QUANTITIES, STRESSES, gain_of_factor
from race_calc.model.parameters import Parameters, n_members
from race_calc.model.race import evaluate_surfaces
from race_calc.posterior.base import Posterior
from race_calc.posterior.state import Shapes, flatten, unflatten
from race_calc.train.context import Context

BATCH = 10  # structures
DIMENSION = {quantity.spread: quantity.dimension for quantity in QUANTITIES}  # of what a spread is the covariance of


@dataclass(frozen=True)
class Measured:
    """Of every member on the validation structures: mean `score` (M,), what it has of each spread by its name, and differences of energies
    (M, B) in eV, forces (M, N, 3) in eV/Å and stresses (M, S, 6) in eV/Å³, as Mandel vectors, of the S that have a label."""

    score: Tensor
    spreads: dict[str, "Squares"]
    energy: Tensor
    forces: Tensor
    stress: Tensor


@dataclass(frozen=True)
class Squares:
    """Mean ½ dᵀ Σ⁻¹ d (M,) over the `count` structures with a label; and as the score weighs it, by batches, whose `share` with a label
    is less than one where some have none."""

    quadratic: Tensor
    count: int
    in_score: Tensor
    share: float


def measure(context: Context, weights: Tensor) -> Measured:
    objective = replace(context, training=context.training.model_copy(update={"recipe": "joint"})).objective
    score = torch.zeros(len(weights), dtype=torch.float64)
    told: dict[str, list[tuple[Tensor, int, int]]] = {}  # mean of a batch, structures with a label, all
    energy, forces, stress = [], [], []
    for start in range(0, len(context.validation), BATCH):
        examples = context.validation[start : start + BATCH]
        layout, labels = context.batch(list(examples), weights.dtype)

        def errors(rows: Tensor) -> tuple[Tensor, ...]:
            stack = context.stack(unflatten(rows, context.shapes))
            (outputs,) = evaluate_surfaces([context.model], [stack], layout, with_forces=[labels.has_forces])
            score = context.posterior.score(outputs, labels, objective)
            quadratics = context.posterior.quadratics(outputs, labels, objective.plan)
            energy, forces = outputs.energy, outputs.forces
            if len(energy) > len(forces):  # many last layers on one trunk: the forces are those of the mean energy
                energy = energy.mean(0, keepdim=True)
            differences = energy - labels.energy, forces - labels.forces, STRESSES.known(outputs, labels)
            return (*(value.double() for value in (*differences, score, *quadratics.values())),)

        having = [quantity for quantity in QUANTITIES if objective.plan.output(quantity.spread) and quantity.count(labels)]
        d_energy, d_forces, d_stress, mean, *quadratics = (result.cpu() for result in context.over_members(errors, weights))
        score += mean * len(examples)
        for quantity, quadratic in zip(having, quadratics, strict=True):
            told.setdefault(quantity.spread, []).append((quadratic, quantity.count(labels), len(examples)))
        energy.append(d_energy)
        forces.append(d_forces)
        stress.append(d_stress)
    spreads = {name: _squares(batches, len(context.validation)) for name, batches in told.items()}
    return Measured(score / len(context.validation), spreads, *(torch.cat(parts, dim=1) for parts in (energy, forces, stress)))


def _squares(batches: list[tuple[Tensor, int, int]], structures: int) -> Squares:
    count, size = sum(labelled for _, labelled, _ in batches), sum(all_of for _, _, all_of in batches)
    by_label = torch.stack([mean * labelled for mean, labelled, _ in batches]).sum(0)
    by_batch = torch.stack([mean * all_of for mean, _, all_of in batches]).sum(0)
    return Squares(by_label / count, count, by_batch / size, size / structures)


def validate(context: Context, weights: Tensor) -> tuple[Tensor, dict]:
    """Scores (M,), lower is better, and root-mean-square errors of members and of their mean on the validation set.

    The score is the likelihood that the head describes (λ-weighted NLL) after the best factor for each spread, as `spreads` will set
    it: means still get better when the predicted σ is already too small. For a head that gives nothing but energies it is the force RMSE.
    Of several surfaces it is their mean; errors of the others stand under "surfaces".
    """
    found = [_of_one(one, weights) for one in context.alone]
    scores, measured = found[0][0], found[0][1]
    if len(found) > 1:
        told = [score for score, errors in found if errors["mean_energy_rmse_eV"] is not None]  # properties that some validation has
        scores = torch.stack(told or [scores]).mean(0)
        measured = measured | {"surfaces": [errors for _, errors in found[1:]]}
    return torch.where(torch.isfinite(scores), scores, torch.full_like(scores, float("inf"))), measured


def _of_one(context: Context, weights: Tensor) -> tuple[Tensor, dict]:
    """The same of the surface of the context."""
    found = measure(context, weights)
    force_rmse = found.forces.pow(2).mean((1, 2)).sqrt()
    energy_rmse = found.energy.pow(2).nanmean(1).sqrt()  # properties may be missing
    measured = {
        "energy_rmse_eV": numbers(energy_rmse),
        "mean_energy_rmse_eV": numbers(found.energy.mean(0).pow(2).nanmean().sqrt()[None])[0],
    }
    if not found.forces.isnan().all():
        measured["force_rmse_eV_per_A"] = numbers(force_rmse)
        measured["mean_force_rmse_eV_per_A"] = numbers(found.forces.mean(0).pow(2).mean().sqrt()[None])[0]
    if found.stress.shape[1]:
        each = found.stress.pow(2).mean((1, 2)).sqrt()
        of_mean = found.stress.mean(0).pow(2).mean().sqrt()
        measured |= {"stress_rmse_eV_per_A3": numbers(each), "mean_stress_rmse_eV_per_A3": numbers(of_mean[None])[0]}
    scores = found.score
    for quantity in QUANTITIES:
        if spread := found.spreads.get(quantity.spread):
            gain = gain_of_factor(spread.in_score, quantity.dimension)
            scores = scores - getattr(context.training, quantity.weight) * spread.share * gain
    if not context.model.plan.outputs:
        scores = energy_rmse if found.forces.isnan().all() else force_rmse  # a scalar without a gradient
    return scores, measured


def errors_of(context: Context, sets: Parameters) -> dict:
    """Errors of finished parameter sets, a row for every member, on the validation structures."""
    shapes: Shapes = {name: value.shape[1:] for name, value in sets.items()}
    over_members = member_map(n_members(sets), context.device)
    finished = replace(context, posterior=Posterior(), shapes=shapes, over_members=over_members)
    return validate(finished, flatten(list(sets.values())))[1]


def numbers(values: Tensor) -> list[float | None]:
    """Rounded for the log; None, in JSON null, where a number is not finite."""
    return [round(value, 6) if math.isfinite(value) else None for value in values.tolist()]
