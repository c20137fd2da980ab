"""Scores and errors of a stack on the validation structures."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from race_calc.model.hardware import member_map
from race_calc.model.likelihood import QUANTITIES, STRESSES, gain_of_factor
from race_calc.model.outputs import Labels, Outputs
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


@dataclass(frozen=True)
class _Batch:
    """What `Measured` is made of, of `size` structures; spreads: mean ½ dᵀ Σ⁻¹ d (M,) and how many have a label."""

    size: int
    energy: Tensor
    forces: Tensor
    stress: Tensor
    score: Tensor
    spreads: dict[str, tuple[Tensor, int]]


def measure(context: Context, weights: Tensor) -> list[Measured]:
    """Of every surface."""
    each = replace(context, training=context.training.model_copy(update={"recipe": "joint"})).alone
    batches: list[list[_Batch]] = [[] for _ in each]
    for start in range(0, len(context.validation), BATCH):
        examples = list(context.validation[start : start + BATCH])
        layout, first = context.batch(examples, weights.dtype)
        labels = (first, *first.others)

        def errors(rows: Tensor) -> tuple[Tensor, ...]:
            parameters = unflatten(rows, context.shapes)
            stacks, with_forces = [one.stack(parameters) for one in each], [known.has_forces for known in labels]
            found = evaluate_surfaces(context.models, stacks, layout, with_forces=with_forces)
            return tuple(value.double() for told in zip(each, found, labels) for value in _errors(*told))

        values = (value.cpu() for value in context.over_members(errors, weights))
        for one, known, own in zip(each, labels, batches):
            energy, forces, stress, score = (next(values) for _ in range(4))
            having = [quantity for quantity in QUANTITIES if one.model.plan.output(quantity.spread) and quantity.count(known)]
            spreads = {quantity.spread: (next(values), quantity.count(known)) for quantity in having}
            own.append(_Batch(len(examples), energy, forces, stress, score, spreads))
        if next(values, None) is not None:
            raise RuntimeError("the quadratics of the posterior are not those of the spreads that have labels")
    return [_measured(own) for own in batches]


def _errors(one: Context, outputs: Outputs, labels: Labels) -> tuple[Tensor, ...]:
    """Of a surface: differences, score, and the quadratics of the spreads that have labels."""
    energy, forces = outputs.energy, outputs.forces
    if len(energy) > len(forces):  # many last layers on one trunk: the forces are those of the mean energy
        energy = energy.mean(0, keepdim=True)
    differences = energy - labels.energy, forces - labels.forces, STRESSES.known(outputs, labels)
    quadratics = one.posterior.quadratics(outputs, labels, one.model.plan)
    return *differences, one.posterior.score(outputs, labels, one.objective), *quadratics.values()


def _measured(batches: list[_Batch]) -> Measured:
    structures = sum(batch.size for batch in batches)
    names = dict.fromkeys(name for batch in batches for name in batch.spreads)
    spreads = {
        name: _squares([(*batch.spreads[name], batch.size) for batch in batches if name in batch.spreads], structures) for name in names
    }
    score = torch.stack([batch.score * batch.size for batch in batches]).sum(0) / structures
    return Measured(
        score, spreads, *(torch.cat([getattr(batch, name) for batch in batches], dim=1) for name in ("energy", "forces", "stress"))
    )


def _squares(batches: list[tuple[Tensor, int, int]], structures: int) -> Squares:
    """From the mean of each batch, how many of its structures have a label, and all of them."""
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
    found = [_of_one(one, measured) for one, measured in zip(context.alone, measure(context, weights))]
    scores, measured = found[0][0], found[0][1]
    if len(found) > 1:
        told = [score for score, errors in found if errors["mean_energy_rmse_eV"] is not None]  # properties that some validation has
        scores = torch.stack(told or [scores]).mean(0)
        measured = measured | {"surfaces": [errors for _, errors in found[1:]]}
    return torch.where(torch.isfinite(scores), scores, torch.full_like(scores, float("inf"))), measured


def _of_one(context: Context, found: Measured) -> tuple[Tensor, dict]:
    """The same of the surface of the context."""
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
