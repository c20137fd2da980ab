"""A prior of smooth radial functions, as a smoothing spline has it (Wahba 1990): their mean squared curvature.

Distances outside those of the training data, such as a bond shorter than any of them, are where a radial
perceptron guesses. Long training on likelihoods bends it there; the penalty keeps it near a straight line where no
data speak.

============ ======================================================== ==============
method       formula                                                  here
============ ======================================================== ==============
roughness    Σ_layers mean over r and the path weights of (d²R/dr²)²  `roughness`
loss         NLL_JEF + smoothness · roughness                         `prior_weight`
============ ======================================================== ==============
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from race_calc.model.config import ModelConfig
from race_calc.model.parameters import Parameters, radial_weights
from race_calc.model.plan import Plan
from race_calc.model.radial import bessel, perceptron
from race_calc.train.config import TrainingConfig

NEAREST, SPACING = 0.5, 0.1  # Å
FEWEST = 8  # points, for very short cutoffs


def prior_weight(plan: Plan, training: TrainingConfig) -> float:
    """`training.smoothness` where the mean learns from the joint likelihood, else 0. `training.recipe`: the one in force.

    Likelihoods grow like 1/σ² while the errors fall; a weight that is mild beside them outweighs squared errors.
    """
    return training.smoothness if training.recipe == "joint" and plan.output("force_cov") else 0.0


def roughness(parameters: Parameters, config: ModelConfig) -> Tensor:
    """Mean of (d²R/dr²)² from 0.5 Å to the cutoff and over the path weights R, summed over the layers: (M,) in Å⁻⁴.

    By second differences at a spacing of about 0.1 Å.
    """
    first = parameters["layers.0.radial.0"]
    basis, spacing = _grid(config.cutoff, config.n_bessel)
    basis = basis.to(first).expand(len(first), -1, -1)
    total = first.new_zeros(len(first))
    for i in range(config.layers):
        curvature = perceptron(basis, radial_weights(parameters, f"layers.{i}")).diff(n=2, dim=1) / spacing**2
        total = total + (curvature**2).mean((1, 2))
    return total


@lru_cache(maxsize=8)
def _grid(cutoff: float, n_bessel: int) -> tuple[Tensor, float]:
    """Radial basis (points, n_bessel) float64 on a uniform grid, and its spacing in Å."""
    nearest = min(NEAREST, cutoff / 2)
    r = np.linspace(nearest, cutoff, max(FEWEST, round((cutoff - nearest) / SPACING) + 1))
    return torch.from_numpy(bessel(r / cutoff, n_bessel)[0]), float(r[1] - r[0])
