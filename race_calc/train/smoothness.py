"""A prior of smooth radial functions, as a smoothing spline has it (Wahba 1990): their mean squared curvature.

Distances outside those of the training data, such as a bond shorter than any of them, are where a radial
perceptron guesses. Long training on likelihoods bends it there; the penalty keeps it near a straight line where no
data speak.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from race_calc.model.config import ModelConfig
from race_calc.model.parameters import Parameters
from race_calc.model.radial import bessel, perceptron

NEAREST, SPACING = 0.5, 0.1  # Å


def roughness(parameters: Parameters, config: ModelConfig) -> Tensor:
    """Mean of (d²R/dr²)² from 0.5 Å to the cutoff and over the path weights R, summed over the layers: (M,) in Å⁻⁴.

    Second differences at a spacing of 0.1 Å.
    """
    first = parameters["layers.0.radial.0"]
    basis = _basis(config.cutoff, config.n_bessel).to(first).expand(len(first), -1, -1)
    total = first.new_zeros(len(first))
    for i in range(config.layers):
        weights = [parameters[f"layers.{i}.radial.{k}"] for k in range(len(config.radial_hidden) + 1)]
        curvature = perceptron(basis, weights).diff(n=2, dim=1) / SPACING**2
        total = total + (curvature**2).mean((1, 2))
    return total


@lru_cache(maxsize=8)
def _basis(cutoff: float, n_bessel: int) -> Tensor:
    """(points, n_bessel) float64."""
    r = np.arange(min(NEAREST, cutoff / 2), cutoff + SPACING, SPACING)
    return torch.from_numpy(bessel(r / cutoff, n_bessel)[0])
