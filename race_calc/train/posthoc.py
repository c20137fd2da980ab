"""Posteriors that are fitted after the training, from one model and its data: Laplace and LLPR.

Both need derivatives for every output of a structure. A stack gives them in one pass: its members are copies of the
model, and each is asked for one output (Laplace) or has one last-layer weight (LLPR).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from race_calc.checkpoint import Noise
from race_calc.model.parameters import Parameters, is_last_layer
from race_calc.model.race import evaluate
from race_calc.parallel import member_map
from race_calc.posterior import laplace, llpr
from race_calc.posterior.state import flatten, unflatten
from race_calc.data.targets import Example
from race_calc.posterior.batch import batch_of
from race_calc.train.prepare import Prepared

ROWS, PAIRS = 128, 300_000  # at most so many copies of the model at once, and so many of them times pairs: some 0.5 GiB
PRIOR = 1.0  # precision of a last-layer weight before the data: weights are drawn from N(0, 1)
Progress = Callable[[int, int], None]  # structures done, all


@dataclass(frozen=True)
class Fitted:
    """A stack of parameter sets and what belongs to it; see `race_calc.checkpoint.Checkpoint`. record: for the card."""

    parameters: Parameters
    record: dict
    noise: Noise | None = None
    last_layer: np.ndarray | None = None


def fit_laplace(prepared: Prepared, parameters: Parameters, members: int, seed: int, device: torch.device,
                progress: Progress = lambda done, total: None) -> Fitted:
    """Diagonal Laplace over all weights of one model (M = 1); energies and force components are the outputs.

    The diagonal of the generalised Gauss-Newton matrix of squared errors, Σ (∂output/∂θ)², with the prior precision and both
    noises by marginal likelihood (`race_calc.posterior.laplace`). A model with more weights than the data have outputs
    takes the noises from the validation structures instead: a diagonal then counts more determined weights than there
    are outputs, and explains everything as noise.
    """
    curvatures = [0.0, 0.0]
    squares, counts = np.zeros(2), np.zeros(2, dtype=int)
    for done, example in enumerate(prepared.train):
        for k, more in enumerate(_squared_jacobian(prepared, parameters, example, device)):
            curvatures[k] = curvatures[k] + more
        energy, forces = _residuals(prepared, parameters, example, device)
        squares += [energy**2 / example.graph.n_atoms, (forces**2).sum()]
        counts += [1, forces.size]
        progress(done + 1, len(prepared.train))
    weights = flatten(list(parameters.values()))[0]
    noises = None
    if len(weights) > counts.sum():
        noises = _mean_squares([_residuals(prepared, parameters, example, device) for example in prepared.validation])
    fit = laplace.fit(weights, noises=noises, energy_curvature=curvatures[0], energy_squares=float(squares[0]), energy_count=int(counts[0]),
                      force_curvature=curvatures[1], force_squares=float(squares[1]), force_count=int(counts[1]))
    shapes = {name: value.shape[1:] for name, value in parameters.items()}
    record = {"prior_precision": fit.prior_precision, "log_evidence": fit.log_evidence, "seed": seed,
              "noises": "validation" if noises else "marginal likelihood"}
    noise = Noise(fit.energy_noise, fit.force_noise)
    return Fitted(unflatten(laplace.sample(fit, members, seed), shapes), record, noise)


def fit_llpr(prepared: Prepared, parameters: Parameters, members: int, seed: int, device: torch.device,
             progress: Progress = lambda done, total: None) -> Fitted:
    """Last-layer prediction rigidity of one model (M = 1), calibrated on the validation structures.

    `members` last layers are drawn, in pairs, and share the trunk; energies keep their closed form. The calibration makes the
    epistemic variance of energies alone explain the errors, as published: what a head predicts comes on top.
    """
    residuals = [_residuals(prepared, parameters, example, device) for example in prepared.validation]
    noise = _mean_squares(residuals)
    mean = torch.cat([value[0, :, 0] for name, value in parameters.items() if is_last_layer(name)]).double().cpu()
    precision = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for done, example in enumerate(prepared.train):
        features, gradients = last_layer_features(prepared, parameters, example, device)
        rows = gradients.reshape(-1, len(mean))
        precision += torch.outer(features, features) / (example.graph.n_atoms * noise[0]) + rows.T @ rows / noise[1]
        progress(done + 1, len(prepared.train))
    held_back, gradients = zip(*[last_layer_features(prepared, parameters, example, device) for example in prepared.validation])
    errors, force_errors = zip(*residuals)
    fit = llpr.fit(mean, precision, PRIOR, torch.stack(held_back), torch.tensor(errors, dtype=torch.float64))
    variances = torch.cat([llpr.force_covariance(fit, g).diagonal(dim1=-2, dim2=-1).flatten() for g in gradients]).numpy()
    ratio = float(np.mean(np.concatenate([f.ravel() for f in force_errors]) ** 2 / variances))
    draws = llpr.sample(fit, members, seed).split(len(mean) // prepared.model.plan.config.layers, dim=1)
    stack, layer = {}, iter(draws)
    for name, value in parameters.items():
        stack[name] = value
        if is_last_layer(name):
            stack[name] = value.repeat(members, 1, 1)
            stack[name][:, :, 0] = next(layer).to(value)
    record = {"calibration": fit.scale, "force_errors_over_variances": ratio, "seed": seed}
    return Fitted(stack, record, last_layer=fit.covariance.cpu().numpy())


def last_layer_features(prepared: Prepared, parameters: Parameters, example: Example, device: torch.device) -> tuple[Tensor, Tensor]:
    """φ (L,) in eV and G (N, 3, L) in eV/Å with E = φ·w and F = G w, float64; w: last-layer weights of all layers in order."""
    model = prepared.model
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

    step = _rows(example)
    parts = []
    for start in range(0, size, step):
        rows = [value[start : start + step] for value in stack.values()]
        parts.append(member_map(len(rows[0]), device)(part, *rows))
    energy, forces = (torch.cat(kind) for kind in zip(*parts))
    return energy.cpu(), forces.permute(1, 2, 0).cpu()


def _rows(example: Example) -> int:
    return max(2, min(ROWS, PAIRS // max(len(example.graph.pair), 1)))


def _squared_jacobian(prepared: Prepared, parameters: Parameters, example: Example, device: torch.device) -> tuple[Tensor, Tensor]:
    """Σ (∂output/∂θ)² (D,) float64 of the energy / √atoms and of the force components of one structure."""
    dtype = parameters["embedding"].dtype
    layout, _ = batch_of([example], prepared.model, dtype, device)
    atoms = example.graph.n_atoms

    def part(chosen: Tensor) -> tuple[Tensor, Tensor]:
        leaves = {name: value.repeat(len(chosen), *[1] * (value.dim() - 1)).requires_grad_() for name, value in parameters.items()}
        outputs = evaluate(prepared.model, leaves, layout, training=True)
        values = torch.cat([outputs.energy / atoms**0.5, outputs.forces.flatten(1)], dim=1)  # (rows, 1 + 3N)
        total = values.gather(1, chosen[:, None]).sum()
        gradients = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True, allow_unused=True)
        squares = flatten(gradients).double().square()
        return squares[chosen == 0].sum(0, keepdim=True), squares[chosen > 0].sum(0, keepdim=True)

    parts = []
    for chosen in torch.arange(1 + 3 * atoms, device=device).split(_rows(example)):
        parts.append(member_map(len(chosen), device)(part, chosen))
    return tuple(torch.cat(kind).sum(0).cpu() for kind in zip(*parts))


def _residuals(prepared: Prepared, parameters: Parameters, example: Example, device: torch.device) -> tuple[float, np.ndarray]:
    """Label minus prediction: energy in eV, forces (N, 3) in eV/Å."""
    layout, _ = batch_of([example], prepared.model, torch.float64, device)
    outputs = evaluate(prepared.model, {name: value.double() for name, value in parameters.items()}, layout)
    return example.energy - float(outputs.energy[0, 0]), example.forces - outputs.forces[0].cpu().numpy()


def _mean_squares(residuals: list[tuple[float, np.ndarray]]) -> tuple[float, float]:
    """Mean squared error of energies per atom of the structure (eV²) and of force components ((eV/Å)²)."""
    energy = np.mean([energy**2 / len(forces) for energy, forces in residuals])
    return float(energy), float(np.mean(np.concatenate([forces.ravel() ** 2 for _, forces in residuals])))
