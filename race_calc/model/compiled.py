"""`evaluate` at prediction as one function compiled by torch, energies and forces together: for GPUs.

Sizes are dynamic: a step with other numbers of atoms or pairs compiles nothing anew, except where an element goes from
none or one atom to several. Torch keeps what it generated on disk for later processes (TORCHINDUCTOR_CACHE_DIR).
"""

import sys
from collections.abc import Callable

import torch
from torch import Tensor

from race_calc.model.angular import clebsch_gordan
from race_calc.model.derivatives import forces_and_virial
from race_calc.model.layout import Layout
from race_calc.model.parameters import Parameters
from race_calc.model.race import Energies, Outputs, Race, energies_of, evaluate, geometry, outputs_of

Evaluate = Callable[[Parameters, Layout], Outputs]


class _Step(torch.nn.Module):
    """A module only because torch takes the numbers in a module, here those of the plan, for constants."""

    def __init__(self, model: Race):
        super().__init__()
        self.model = model

    def forward(self, parameters: Parameters, layout: Layout, angular: list[Tensor], radial: list[Tensor]):
        def total(angular, radial):
            found = energies_of(self.model, parameters, layout, angular, radial)
            return found.total, {name: value for name, value in vars(found).items() if value is not None}

        gradients, energies = torch.func.grad(total, argnums=(0, 1), has_aux=True)(angular, radial)
        return energies, forces_and_virial(gradients, layout)


def compiled_evaluate(model: Race, backend: str = "inductor") -> Evaluate:
    """A function of parameters and a layout of one padded block that gives what `evaluate` gives.

    The first call compiles, which takes minutes; a note on standard error says so. `backend` of torch.compile.
    """

    compiled = torch.compile(_Step(model), dynamic=True, fullgraph=True, backend=backend)
    told = False

    def run(parameters: Parameters, layout: Layout) -> Outputs:
        nonlocal told
        if not layout.blocks[0].width:  # no pairs: nothing to gain
            return evaluate(model, parameters, layout)
        if not told:
            print("race_calc: torch compiles the model, once per process, in minutes", file=sys.stderr, flush=True)
            told = True
            for path in ((i.l, p.l2, o.l) for layer in model.plan.layers for p in layer.paths if p.l2
                         for i, o in [(layer.inputs[p.source], layer.outputs[p.target])]):
                clebsch_gordan(*path)  # constants cannot be made while torch traces
        with torch.no_grad():
            angular, radial = ([leaf.detach() for leaf in leaves] for leaves in geometry(parameters, layout))
            energies, (forces, virial) = compiled(parameters, layout, angular, radial)
            return outputs_of(parameters, layout, Energies(**energies), forces, virial)

    return run
