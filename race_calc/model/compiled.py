"""`evaluate` at prediction as one function compiled by torch, energies and forces together: for GPUs.

Sizes are dynamic. What compiles anew: another pattern of none, one or several atoms of each element, one structure or
several, one atom alone. Torch keeps what it generated on disk for later processes (TORCHINDUCTOR_CACHE_DIR).
"""

import sys
from collections.abc import Callable

import torch
from torch import Tensor

from race_calc.model.angular import CONSTANT, clebsch_gordan
from race_calc.model.coupling import rows_of
from race_calc.model.derivatives import forces_and_virial
from race_calc.model.layout import Geometry, Layout
from race_calc.model.outputs import Outputs
from race_calc.model.parameters import Parameters
from race_calc.model.race import Energies, Race, energies_of, evaluate, geometry, outputs_of

Evaluate = Callable[[Parameters, Layout], Outputs]
OLDEST_TORCH = (2, 13)  # tried; tracing the model fails inside torch 2.4, 2.6, 2.9 and 2.11
MOST_VERSIONS = 64  # of all models in a process; beyond, structures of a new pattern are evaluated without compiling


class _Step(torch.nn.Module):
    """A module only because torch takes the numbers in a module, here those of the plan, for constants."""

    def __init__(self, model: Race):
        super().__init__()
        self.model = model

    def forward(self, parameters: Parameters, layout: Layout, angular: list[Tensor], radial: list[Tensor]):
        def total(angular, radial):
            found = energies_of(self.model, parameters, Geometry(layout, angular, radial))
            return found.total, {name: value for name, value in vars(found).items() if value is not None}

        gradients, energies = torch.func.grad(total, argnums=(0, 1), has_aux=True)(angular, radial)
        return energies, forces_and_virial(gradients, layout)


def why_not_compiled() -> str | None:
    """Why this torch cannot compile the model, with what to do; None where it can."""
    if torch.__version__ >= OLDEST_TORCH:  # type: ignore[operator]  # a TorchVersion, which compares with tuples
        return None
    return f"torch {torch.__version__} does not compile the model: install torch >= 2.13, or leave compile=True out"


def compiled_evaluate(model: Race, backend: str = "inductor") -> Evaluate:
    """A function of parameters and a layout of one padded block that gives what `evaluate` gives.

    Compiling takes minutes; a note on standard error says so each time. `backend` of torch.compile. Raises RuntimeError for
    a torch that is too old.
    """
    if problem := why_not_compiled():
        raise RuntimeError(problem)
    import torch._dynamo as dynamo  # here, because it takes seconds
    from torch.fx.experimental import _config as shapes_config

    generate = dynamo.lookup_backend(backend)
    for function in CONSTANT:
        torch.compiler.assume_constant_result(function)  # marks the function itself

    def noted(*arguments, **options):
        print("race_calc: torch compiles the model for a new kind of structure, this takes minutes", file=sys.stderr, flush=True)
        return generate(*arguments, **options)

    compiled = torch.compile(_Step(model), dynamic=True, fullgraph=True, backend=noted)
    for layer in model.plan.layers:  # constants cannot be made while torch traces
        for path in layer.paths:
            if path.l2:
                clebsch_gordan(layer.inputs[path.source].l, path.l2, layer.sums[path.target].l)
        for product in layer.products:
            rows_of(product)
    limit = "recompile_limit" if hasattr(dynamo.config, "recompile_limit") else "cache_size_limit"

    def run(parameters: Parameters, layout: Layout) -> Outputs:
        if not layout.blocks[0].width:  # no pairs: nothing to gain
            return evaluate(model, parameters, layout)
        around = geometry(parameters, layout)
        for value in parameters.values():
            dynamo.mark_static(value)
        # without duck shapes: that two sizes are equal once does not mean that they always are
        with torch.no_grad(), dynamo.config.patch({limit: MOST_VERSIONS}), shapes_config.patch(use_duck_shape=False):  # type: ignore[attr-defined]  # made at run time
            try:
                energies, derivatives = compiled(parameters, layout, around.angular, around.radial)
            except dynamo.exc.FailOnRecompileLimitHit:
                return evaluate(model, parameters, layout)
            return outputs_of(model, parameters, layout, Energies(**energies), derivatives)

    return run
