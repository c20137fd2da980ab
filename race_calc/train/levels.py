"""Two levels of labels in one training: few expensive ones, many cheap ones.

=========== =========================================== =============================
symbol      meaning                                     here
=========== =========================================== =============================
φ           last-layer features of all layers           `race_calc.model.interaction`
w           last layer of the energy                    `layers.i.readout.out`, column 0
δ           the difference between the levels           `layers.i.readout.high` (C, 1)
E_low       φ · w, of cheap labels                      `at_level(…, high=False)`
E_high      φ · (w + δ), of the labels of the training  `at_level(…, high=True)`
=========== =========================================== =============================

Everything but δ is learned from both. When the training is over, w + δ takes the place of w: the finished model is a plain
one, and a step costs what it costs without the second level. Each level has reference energies of its own.
"""

import torch

from race_calc.model.channels import ENERGY
from race_calc.model.parameters import READOUT_HIDDEN, Parameters
from race_calc.model.plan import Plan

HIGH = "readout.high"


def with_levels(parameters: Parameters, plan: Plan) -> Parameters:
    """The first weights with δ = 0."""
    some = parameters["embedding"]
    zeros = {f"layers.{i}.{HIGH}": some.new_zeros(len(some), READOUT_HIDDEN, ENERGY.width) for i in range(len(plan.layers))}
    return parameters | zeros


def at_level(parameters: Parameters, high: bool = True) -> Parameters:
    """The plain model of a level; the same parameters where there is one level only. Differentiable."""
    found = {name: value for name, value in parameters.items() if not name.endswith(HIGH)}
    for name in parameters.keys() - found.keys() if high else ():
        out = name.removesuffix(HIGH) + "readout.out"
        energy, rest = found[out].split([ENERGY.width, found[out].shape[-1] - ENERGY.width], dim=-1)
        found[out] = torch.cat([energy + parameters[name], rest], dim=-1)
    return found
