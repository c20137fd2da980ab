"""A stack on a layout with the threads of the machine shared out, by kernel or by member."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch

from race_calc.model.hardware import member_map, one_main_thread
from race_calc.model.layout import Layout
from race_calc.model.outputs import Outputs
from race_calc.model.parameters import Parameters, n_members, shares_trunk
from race_calc.model.race import Race, evaluate_surfaces
from race_calc.model.surfaces import of_surface

FEW_ATOMS = 50  # below, threads share each kernel; above, each takes members: Python hands over too slowly for small ones


def evaluated(
    models: Sequence[Race], parameters: Parameters, layout: Layout, with_forces: Sequence[bool] | None = None
) -> tuple[Outputs, ...]:
    """The outputs of every surface, one for most models; see `race_calc.model.race.evaluate_surfaces`."""

    def whole(parameters: Parameters, layout: Layout) -> tuple[Outputs, ...]:
        stacks = [of_surface(parameters, k) for k in range(len(models))]
        return evaluate_surfaces(models, stacks, layout, with_forces=with_forces)

    threads = torch.get_num_threads()
    if layout.edges is None or threads == 1:
        return whole(parameters, layout)
    few, rows = len(layout.batch) < FEW_ATOMS, n_members(parameters)
    if few or rows < threads or shares_trunk(parameters):
        with one_main_thread() if few else nullcontext():
            return whole(parameters, replace(layout, edges=replace(layout.edges, threads=threads)))

    def part(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(tensor for outputs in whole(dict(zip(parameters, values)), layout) for tensor in outputs.flat().values())

    tensors = member_map(rows, torch.device("cpu"))(part, *parameters.values())
    each, heads = len(tensors) // len(models), [output.name for output in models[0].plan.outputs]
    return tuple(Outputs.of_flat(tensors[k * each : (k + 1) * each], heads) for k in range(len(models)))
