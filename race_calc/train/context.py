"""What every step of a run needs, made once."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from race_calc.data.targets import Example
from race_calc.model.hardware import MemberMap, member_map
from race_calc.model.layout import Layout
from race_calc.model.outputs import Labels
from race_calc.model.parameters import Parameters
from race_calc.model.race import Race
from race_calc.model.surfaces import of_surface
from race_calc.posterior.base import Posterior, by_name
from race_calc.posterior.batch import batch_of
from race_calc.posterior.given import Basis, Objective, Progress
from race_calc.posterior.state import Shapes
from race_calc.train.config import TrainConfig, TrainingConfig
from race_calc.train.levels import at_level
from race_calc.train.losses import loss
from race_calc.train.prepare import Prepared, with_stress_weight

Batch = tuple[Layout, Labels]


@dataclass(frozen=True)
class Context:
    """A run: settings, method, model and data.

    ============ ================================================================================
    training     settings; in an epoch, with the recipe that is in force there
    posterior    the method's object
    model        plan, species, scale and neighbours; of the first surface, which is alone in most models
    models       those of all surfaces
    surface      which of them `model` is
    train        structures to learn from
    repeats      how often each of them is seen in an epoch; () for once
    low          structures with labels of the low level, and
    low_weight   the weight of their loss
    validation   structures to choose the best weights on
    shapes       of each parameter of one row of the stack, in their order
    device       where the stack is
    over_members shares its rows out to threads
    ============ ================================================================================
    """

    training: TrainingConfig
    posterior: Posterior
    model: Race
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    shapes: Shapes
    device: torch.device
    over_members: MemberMap
    low: tuple[Example, ...] = ()
    low_weight: float = 1.0
    models: tuple[Race, ...] = ()
    surface: int = 0
    repeats: tuple[int, ...] = ()

    def stack(self, parameters: Parameters, high: bool = True) -> Parameters:
        """The stack that is evaluated for the parameters in training, at a level of the labels; gradients pass through."""
        return self.posterior.stack(at_level(of_surface(parameters, self.surface), high))

    @property
    def alone(self) -> tuple["Context", ...]:
        """Each surface as a run of its own would have it."""
        return tuple(replace(self, model=model, models=(model,), surface=k) for k, model in enumerate(self.models))

    @property
    def dtype(self) -> torch.dtype:
        return getattr(torch, self.training.dtype)

    @property
    def objective(self) -> Objective:
        training, plan = self.training, self.model.plan

        def plain(outputs, labels) -> Tensor:
            return loss(outputs, labels, plan, training)

        return Objective(plain, plan, training.energy_weight, training.force_weight, training.stress_weight or 0.0)

    def batch(self, examples: list[Example], dtype: torch.dtype) -> Batch:
        """Labels of the first surface, with those of the others."""
        return batch_of(examples, self.model, dtype, self.device)

    def basis(self, members: int, seed: int, progress: Progress) -> Basis:
        """What the parameter sets of the posterior are made from."""
        return Basis(self.models, self.shapes, self.train, self.validation, self.device, members, seed, progress)


def context_of(config: TrainConfig, prepared: Prepared, device: torch.device) -> Context:
    return Context(
        training=with_stress_weight(config, prepared.stress_weight).training,
        posterior=by_name(config.posterior),
        model=prepared.models[0],
        models=prepared.models,
        train=prepared.train,
        validation=prepared.validation,
        shapes={name: value.shape[1:] for name, value in prepared.parameters.items()},
        device=device,
        over_members=member_map(config.trained, device),
        low=prepared.low,
        repeats=prepared.repeats,
        low_weight=config.data.low_level.weight if config.data.low_level else 1.0,
    )
