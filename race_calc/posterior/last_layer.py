"""What the value of a structure says about the last-layer weights: its derivatives, exact where it is linear in them.

A model of one energy, and an electronic state, has energies and forces that are linear in one column of every last layer. A property is
read from the columns of its kind (`race_calc.model.kinds`), and the length of a dipole, as a scalar that is never negative, is not linear:
there φ is its gradient at the weights of the training. The vectors of a dipole have last layers of their own, which stay as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from race_calc.data.targets import Example
from race_calc.model.hardware import member_map
from race_calc.model.kinds import ADDITIVE, KINDS
from race_calc.model.parameters import Parameters, is_last_layer, surface_prefix
from race_calc.model.race import Race, evaluate, evaluate_surfaces
from race_calc.model.surfaces import of_surface
from race_calc.posterior.batch import batch_of
from race_calc.posterior.posthoc import residuals, rows_at_once


@dataclass(frozen=True)
class Rows:
    """Of a structure: `error`, label less prediction, NaN without a label; `features` φ (L,); `size`, atoms where the value is their sum,
    else 1; with forces also their errors (N, 3) and `gradients` G (N, 3, L)."""

    error: float
    features: Tensor
    size: int
    force_errors: np.ndarray | None = None
    gradients: Tensor | None = None


def rows_of(models: Sequence[Race], one: Parameters, example: Example, device: torch.device) -> list[Rows]:
    """Of every surface of a model (M = 1), in the units of the network."""
    examples = (example, *example.others)
    if all(model.kind == "energy" for model in models):
        return [_of_energy(model, of_surface(one, k), examples[k], device) for k, model in enumerate(models)]
    values = _of_values(models, one, examples, device)
    return [
        _of_energy(model, of_surface(one, k), examples[k], device) if model.kind == "energy" else values[k]
        for k, model in enumerate(models)
    ]


def _of_energy(model: Race, one: Parameters, example: Example, device: torch.device) -> Rows:
    error, force_errors = residuals(model, one, example, device)
    features, gradients = last_layer_features(model, one, example, device)
    return Rows(error, features, len(force_errors), force_errors, gradients)


def _of_values(models: Sequence[Race], one: Parameters, examples: Sequence[Example], device: torch.device) -> list[Rows]:
    """Without forces: the trunk is evaluated once, only last layers are differentiated."""
    whole = {name: value.detach().double().requires_grad_(is_last_layer(name)) for name, value in one.items()}
    layout, _ = batch_of([examples[0]], models[0], torch.float64, device)
    stacks = [of_surface(whole, k) for k in range(len(models))]
    found = evaluate_surfaces(models, stacks, layout, training=True, with_forces=[False] * len(models))
    rows = []
    for model, stack, outputs, example in zip(models, stacks, found, examples):
        leaves = [value for name, value in stack.items() if is_last_layer(name)]
        gradients = torch.autograd.grad(outputs.energy[0, 0], leaves, retain_graph=True)
        size = example.graph.n_atoms if model.kind in ADDITIVE else 1
        rows.append(Rows(example.energy - float(outputs.energy[0, 0].detach()), _packed(gradients, columns_of(model)).cpu(), size))
    return rows


def last_layer_features(model: Race, parameters: Parameters, example: Example, device: torch.device) -> tuple[Tensor, Tensor]:
    """φ (L,) in eV and G (N, 3, L) in eV/Å with E = φ·w and F = G w, float64; w: last-layer weights of all layers in order."""
    last = [name for name in parameters if is_last_layer(name)]
    width = parameters[last[0]].shape[1]
    size = width * len(last)
    stack = {name: value.double().expand(size, *value.shape[1:]) for name, value in parameters.items()}
    for k, name in enumerate(last):
        stack[name] = torch.zeros_like(stack[name])
        stack[name][k * width : (k + 1) * width, :, 0] = torch.eye(width, dtype=torch.float64)
    layout, _ = batch_of([example], model, torch.float64, device)

    def part(*rows: Tensor) -> tuple[Tensor, Tensor]:
        outputs = evaluate(model, dict(zip(stack, rows)), layout)
        return outputs.energy[:, 0], outputs.forces

    step = rows_at_once(example)
    parts = []
    for start in range(0, size, step):
        rows = [value[start : start + step] for value in stack.values()]
        parts.append(member_map(len(rows[0]), device)(part, *rows))
    energy, forces = (torch.cat(kind) for kind in zip(*parts))
    return energy.cpu(), forces.permute(1, 2, 0).cpu()


def columns_of(model: Race) -> list[int]:
    """Columns of every last layer that the value of a structure is read from; the energy's is the first."""
    found, start = [], 0
    for channel in model.plan.channels:
        if channel.irrep == "0e":
            found += [*range(start, start + channel.width)] if channel in KINDS[model.kind] else []
            start += channel.width
    return found


def last_layers(parameters: Parameters, surface: int = 0) -> list[str]:
    """Names of the last layers of a surface, in order."""
    return [surface_prefix(surface) + name for name in of_surface(parameters, surface) if is_last_layer(name)]


def last_layer_weights(one: Parameters, columns: Sequence[int], surface: int = 0) -> Tensor:
    """w (L,), float64, of the model `one` (M = 1): by layer, by column."""
    return _packed([one[name].double().cpu() for name in last_layers(one, surface)], columns)


def with_last_layers(one: Parameters, draws: Tensor, columns: Sequence[int] = (0,), surface: int = 0) -> Parameters:
    """A stack on the trunk of the model `one` (M = 1); a row of draws (members, L): last-layer weights as `last_layer_weights` has them."""
    stack, names = dict(one), last_layers(one, surface)
    for name, part in zip(names, draws.split(draws.shape[1] // len(names), dim=1)):
        stack[name] = one[name].repeat(len(draws), 1, 1)
        stack[name][:, :, list(columns)] = part.reshape(len(draws), len(columns), -1).transpose(1, 2).to(one[name])
    return stack


def _packed(layers: Sequence[Tensor], columns: Sequence[int]) -> Tensor:
    """(1, 64, K) of every layer → (L,)."""
    return torch.cat([value[0, :, list(columns)].T.reshape(-1) for value in layers])
