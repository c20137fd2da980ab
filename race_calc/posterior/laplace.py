"""Diagonal Laplace over all weights: curvatures of a trained model, the fit (`race_calc.posterior.laplace_evidence`), sound draws."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from race_calc.data.targets import Example
from race_calc.model.hardware import member_map
from race_calc.model.parameters import Parameters
from race_calc.model.race import Race, evaluate
from race_calc.posterior.batch import batch_of
from race_calc.posterior.given import Basis, Fitted, Noise
from race_calc.posterior.laplace_evidence import LaplaceFit, Observations, fit, sample
from race_calc.posterior.posthoc import PostHoc, mean_squares, residuals, rows_at_once
from race_calc.posterior.state import flatten, unflatten

WORST, JUDGED, COLDEST = 3.0, 50, 1e-6  # see `_sound_draws`; structures it looks at


def squared_jacobian(model: Race, parameters: Parameters, example: Example, device: torch.device) -> tuple[Tensor, Tensor]:
    """Σ (∂output/∂θ)² (D,) float64 of the energy / √atoms and of the force components of one structure, M = 1."""
    layout, _ = batch_of([example], model, parameters["embedding"].dtype, device)
    atoms = example.graph.n_atoms

    def part(chosen: Tensor) -> tuple[Tensor, Tensor]:
        leaves = {name: value.repeat(len(chosen), *[1] * (value.dim() - 1)).requires_grad_() for name, value in parameters.items()}
        outputs = evaluate(model, leaves, layout, training=True)
        values = torch.cat([outputs.energy / atoms**0.5, outputs.forces.flatten(1)], dim=1)  # (rows, 1 + 3N)
        total = values.gather(1, chosen[:, None]).sum()
        gradients = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True, allow_unused=True)
        squares = flatten(gradients).double().square()
        return squares[chosen == 0].sum(0, keepdim=True), squares[chosen > 0].sum(0, keepdim=True)

    parts = []
    for chosen in torch.arange(1 + 3 * atoms, device=device).split(rows_at_once(example)):
        parts.append(member_map(len(chosen), device)(part, chosen))
    energy, forces = (torch.cat(kind).sum(0).cpu() for kind in zip(*parts))
    return energy, forces


def _sound_draws(found: LaplaceFit, one: Parameters, basis: Basis) -> tuple[Parameters, float]:
    """Draws, and the temperature: 1, or the first of ¼, ¹⁄₁₆, … at which the mean of the draws is not WORST times as far from the forces
    of the validation structures as the model itself.

    The curvature is that of outputs linear in the weights. Products of features are not: where a weight hardly matters at the MAP,
    its draws are wide, and two wide ones multiply.
    """
    some = basis.validation[:JUDGED]

    def error(sets: Parameters) -> float:
        return mean_squares([residuals(basis.model, sets, example, basis.device) for example in some])[1] ** 0.5

    least, temperature = error(one), 1.0
    while True:
        sets = unflatten(sample(found, basis.members, basis.seed, temperature), basis.shapes)
        if error(sets) <= WORST * least or temperature < COLDEST:
            return sets, temperature
        temperature /= 4


class Laplace(PostHoc):
    name = "laplace"
    heads = ("mse",)  # it finds the noises itself
    means = ("map", "draws")
    validation_use = "The best weights were chosen on these structures, and noises may come from them."

    def fit(self, one: Parameters, basis: Basis) -> Fitted:
        """Diagonal Laplace over all weights; energies and force components are the outputs.

        The diagonal of the generalised Gauss-Newton matrix of squared errors, Σ (∂output/∂θ)², with the prior precision and
        both noises by marginal likelihood. A model with more weights than the data have outputs takes the noises from the
        validation structures instead: a diagonal then counts more determined weights than there are outputs, and explains
        everything as noise.
        """
        curvatures: list[Any] = [0.0, 0.0]
        squares, counts = np.zeros(2), np.zeros(2, dtype=int)
        for done, example in enumerate(basis.train):
            for k, more in enumerate(squared_jacobian(basis.model, one, example, basis.device)):
                curvatures[k] = curvatures[k] + more
            energy, forces = residuals(basis.model, one, example, basis.device)
            squares += [energy**2 / example.graph.n_atoms, (forces**2).sum()]
            counts += [1, forces.size]
            basis.progress(done + 1, len(basis.train))
        weights = flatten(list(one.values()))[0]
        noises = None
        if len(weights) > counts.sum():
            noises = mean_squares([residuals(basis.model, one, example, basis.device) for example in basis.validation])
        energies, forces_ = (Observations(*sums) for sums in zip(curvatures, squares, counts))
        found = fit(weights, energies, forces_, noises)
        record = {
            "prior_precision": found.prior_precision,
            "log_evidence": found.log_evidence,
            "seed": basis.seed,
            "noises": "validation" if noises else "marginal likelihood",
        }
        sets, temperature = _sound_draws(found, one, basis)
        record |= {"temperature": temperature} if temperature < 1 else {}
        return Fitted(sets, record, Noise(found.energy_noise or 0.0, found.force_noise or 0.0), center=one)


POSTERIORS = (Laplace(),)
