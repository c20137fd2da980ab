"""The predicted spreads of a finished training get their best factor on the validation structures.

While a training runs, a spread learns the residuals of weights that the optimiser still moves; what is kept is their average, which is
better. On 3BPA the members' energies are off by 4 to 18 meV before the average and by 3 to 5 after, and σ is 23 meV (`docs/model.md`).
"""

import torch
from torch import Tensor

from race_calc.model.parameters import surface_prefix
from race_calc.posterior.state import flatten, unflatten
from race_calc.train.context import Context
from race_calc.train.validate import DIMENSION, measure

FEWEST = 10  # structures: fewer tell no factor
PASSES, NEAR = 20, 1e-4  # at most; log factor at which they end: an offset is the log of a factor only where a spread is its exponential


def refitted(context: Context, weights: Tensor) -> tuple[Tensor, dict[str, list[float]]]:
    """Weights (M, …) with other offsets of the spreads, and exp of what was added to them by the name of the spread, the
    factor of σ² where a spread is the exponential of its offset; means stay as they are.

    The factor with the largest likelihood is the mean of dᵀ Σ⁻¹ d over its dimension. A member for which it is not finite, or zero, and
    all of them where there are fewer structures than FEWEST, keep theirs.
    """
    factors: dict[str, list[float]] = {}
    for one in context.alone:
        weights, found = _refitted(one, weights)
        factors |= {surface_prefix(one.surface) + name: value for name, value in found.items()}
    return weights, factors


def _refitted(context: Context, weights: Tensor) -> tuple[Tensor, dict[str, list[float]]]:
    """Of one surface."""
    before = surface_prefix(context.surface)
    outputs = {output.name: before + output.offset for output in context.model.plan.outputs if output.offset and output.name in DIMENSION}
    factors = {name: torch.ones(len(weights), dtype=torch.float64) for name in outputs}
    if len(context.validation) < FEWEST:
        return weights, {}
    for _ in range(PASSES):
        told = {name: spread for name, spread in measure(context, weights).spreads.items() if spread.count >= FEWEST}
        steps = {name: _log_factor(spread.quadratic, DIMENSION[name]) for name, spread in told.items()}
        if all(float(step.abs().max()) < NEAR for step in steps.values()):
            break
        parameters = unflatten(weights, context.shapes)
        for name, step in steps.items():
            factors[name] *= step.exp()
            old = parameters[outputs[name]]
            parameters[outputs[name]] = old + step.to(old).reshape(-1, *[1] * (old.dim() - 1))
        weights = flatten(list(parameters.values()))
    return weights, {name: [float(f"{value:.6g}") for value in values.tolist()] for name, values in factors.items()}


def _log_factor(quadratic: Tensor, dimension: int) -> Tensor:
    """Of the mean ½ dᵀ Σ⁻¹ d of members (M,); 0 where that is not finite, or zero."""
    factor = 2 * quadratic / dimension
    return torch.where(torch.isfinite(factor) & (factor > 0), factor, torch.ones_like(factor)).log()
