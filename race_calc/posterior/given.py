"""What a method (`race_calc.posterior.base`) is given, and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from race_calc.data.targets import Example
from race_calc.model.outputs import Labels, Outputs
from race_calc.model.parameters import Parameters
from race_calc.model.plan import Plan
from race_calc.model.race import Race
from race_calc.posterior.state import Shapes, StackState

Progress = Callable[[int, int], None]  # structures done, all


@dataclass(frozen=True)
class Noise:
    """Variances of the labels: of a total energy per atom, eV², and of a force component, (eV/Å)²."""

    energy: float
    forces: float

    def __post_init__(self):
        if not all(isinstance(value, float) and 0 < value < float("inf") for value in (self.energy, self.forces)):
            raise ValueError(f"the noise is {self.energy!r}, {self.forces!r}: variances are finite numbers > 0")


@dataclass(frozen=True)
class Plateau:
    """A constant learning rate at the end: from this share of the epochs on, at this share of the peak."""

    start: float
    rate: float


@dataclass(frozen=True)
class Objective:
    """What the configuration makes of errors: `plain`, outputs and labels → (M,), is the loss of its head and recipe."""

    plain: Callable[[Outputs, Labels], Tensor]
    plan: Plan
    energy_weight: float
    force_weight: float
    stress_weight: float


@dataclass(frozen=True)
class Step:
    """What an optimisation step has to work with.

    ========== ======================================================================================
    gradients  weights (M, D) → losses (M,) and gradients (M, D) of this batch
    optimise   state, losses, gradients → the state after a step of the optimiser of the training
    rate       learning rate
    structures number of structures in the whole training set
    draws      (M, D) standard normal where the posterior has `random_steps`, else (M, 0)
    ========== ======================================================================================
    """

    gradients: Callable[[Tensor], tuple[Tensor, Tensor]]
    optimise: Callable[[StackState, Tensor, Tensor], StackState]
    rate: float
    structures: int
    draws: Tensor


@dataclass(frozen=True)
class Basis:
    """What parameter sets are made from besides the weights. `models`: of all surfaces, of most models one; `shapes`: of the model that was
    trained; `seed`: of the draws."""

    models: tuple[Race, ...]
    shapes: Shapes
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    device: torch.device
    members: int
    seed: int
    progress: Progress = lambda done, total: None

    @property
    def model(self) -> Race:
        """Of the first surface."""
        return self.models[0]


@dataclass(frozen=True)
class Fitted:
    """A stack of parameter sets and what belongs to it; see `race_calc.posterior.checkpoint.Checkpoint`. record: for the card.

    `center`: the MAP (M = 1), of a posterior with `means`; it is kept where the configuration says `mean: map`.
    """

    parameters: Parameters
    record: dict
    noise: Noise | None = None
    last_layer: np.ndarray | None = None
    center: Parameters | None = None
