"""The predicted spreads of a finished training get their best factor on the validation structures.

While a training runs, a spread learns the residuals of weights that the optimiser still moves; what is kept is their average, which is
better. On 3BPA the members' energies are off by 4 to 18 meV before the average and by 3 to 5 after, and σ is 23 meV (`docs/model.md`).
"""

import torch
from torch import Tensor

from race_calc.model.parameters import surface_prefix
from race_calc.posterior.state import flatten, unflatten
from race_calc.train.context import Context
from race_calc.train.validate import DIMENSION, Measured, measure

FEWEST = 10  # structures: fewer tell no factor
PASSES, NEAR = 20, 1e-4  # at most; log factor at which they end: an offset is the log of a factor only where a spread is its exponential


def refitted(context: Context, weights: Tensor) -> tuple[Tensor, dict[str, list[float]]]:
    """Weights (M, …) with other offsets of the spreads, and exp of what was added to them by the name of the spread, the
    factor of σ² where a spread is the exponential of its offset; means stay as they are.

    The factor with the largest likelihood is the mean of dᵀ Σ⁻¹ d over its dimension. A member for which it is not finite, or zero, and
    all of them where there are fewer structures than FEWEST, keep theirs.
    """
    outputs = {
        surface_prefix(k) + output.name: surface_prefix(k) + output.offset
        for k, model in enumerate(context.models)
        for output in model.plan.outputs
        if output.offset and output.name in DIMENSION
    }
    factors = {name: torch.ones(len(weights), dtype=torch.float64) for name in outputs}
    if len(context.validation) < FEWEST:
        return weights, {}
    open_surfaces = set(range(len(context.models)))  # each ends when its own steps are small
    for _ in range(PASSES):
        steps = _steps(measure(context, weights), open_surfaces)
        open_surfaces = {k for k, own in steps.items() if any(float(step.abs().max()) >= NEAR for step in own.values())}
        if not open_surfaces:
            break
        parameters = unflatten(weights, context.shapes)
        for k in open_surfaces:
            for name, step in steps[k].items():
                factors[name] *= step.exp()
                old = parameters[outputs[name]]
                parameters[outputs[name]] = old + step.to(old).reshape(-1, *[1] * (old.dim() - 1))
        weights = flatten(list(parameters.values()))
    return weights, {name: [float(f"{value:.6g}") for value in values.tolist()] for name, values in factors.items()}


def _steps(found: list[Measured], surfaces: set[int]) -> dict[int, dict[str, Tensor]]:
    """Surface → name of a spread → what its offset is to get (M,)."""
    return {
        k: {
            surface_prefix(k) + name: _log_factor(spread.quadratic, DIMENSION[name])
            for name, spread in found[k].spreads.items()
            if spread.count >= FEWEST
        }
        for k in surfaces
    }


def _log_factor(quadratic: Tensor, dimension: int) -> Tensor:
    """Of the mean ½ dᵀ Σ⁻¹ d of members (M,); 0 where that is not finite, or zero."""
    factor = 2 * quadratic / dimension
    return torch.where(torch.isfinite(factor) & (factor > 0), factor, torch.ones_like(factor)).log()
