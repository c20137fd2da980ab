"""How much a training learns from stresses: the weight that the configuration leaves open, and what is wrong with their labels."""

import warnings
from collections.abc import Sequence

import numpy as np

from race_calc.data.stress_units import doubt_of_stresses
from race_calc.data.targets import Example
from race_calc.model.channels import outputs_of_head
from race_calc.model.likelihood import STRESSES
from race_calc.posterior.base import by_name
from race_calc.train.config import STRESS_WEIGHT, TrainConfig


def stress_weight(config: TrainConfig, examples: Sequence[Example], low: Sequence[Example]) -> float:
    """`training.stress_weight`, and where it is left out the default, or 0 where no structure has a stress.

    Warns of labels that are not used and of a weight without labels. Raises ValueError where the head learns a covariance of stresses and
    there are none, where nothing is left to learn from, and for stresses in other units, of which it only warns where a weight is given.
    """
    training, weight, posterior = config.training, config.training.stress_weight, by_name(config.posterior)
    outputs = outputs_of_head(config.model.head, config.model.force_covariance)
    predicted = any(output.name == STRESSES.spread for output in outputs)
    labels = any(example.has_stress for example in examples)
    anywhere = labels or any(example.has_stress for example in low)
    if predicted and not labels:
        raise ValueError(
            f"model.head {config.model.head} learns from stresses, and no structure of the training has one with a periodic cell: "
            "take head joint, or say under which name they stand (data.keys)"
        )
    if weight is None:
        weight = STRESS_WEIGHT if anywhere and posterior.learns_stress else 0.0
        if not weight and not training.energy_weight and not training.force_weight:
            raise ValueError("energy_weight and force_weight are 0, and there are no stresses to learn from: give one of them a value > 0")
    elif weight and not anywhere:
        warnings.warn(
            "training.stress_weight is set, and no structure of the training has a stress with a periodic cell: nothing is learned "
            "from it; are stresses stored under another name (data.keys)?",
            stacklevel=3,
        )
    elif not weight and labels and posterior.learns_stress:
        warnings.warn(
            "structures of the training have stresses, and training.stress_weight is 0: pressures and cells will be less exact; leave it "
            "out for its default",
            stacklevel=3,
        )
    doubt = doubt_of_stresses(examples) if weight else None
    if doubt and training.stress_weight is None:
        raise ValueError(f"{doubt}; if they are right, write training.stress_weight: {weight:g}, and they are used as they are")
    if doubt:
        warnings.warn(doubt, stacklevel=3)
    return weight


def virial_variance(examples: Sequence[Example]) -> float:
    """Mean square of the six components of the virials that are learned from, by atom, in eV²; 1 where there are none."""
    learned = [example for example in examples if example.has_stress]
    return float(np.mean([np.sum(one.virial**2) / 6 / one.graph.n_atoms for one in learned])) if learned else 1.0
