"""Mean energies and forces alone, where they cost less than all that a posterior tells."""

from dataclasses import replace

from race_calc.label.calculated import Calculated
from race_calc.model.parameters import shares_trunk
from race_calc.posterior.checkpoint import Checkpoint
from race_calc.posterior.load import load_stack
from race_calc.posterior.stack import StackPosterior


def means_of(checkpoint: Checkpoint, stack: StackPosterior, compile: bool | None, tables: bool) -> StackPosterior | None:
    """A posterior with the mean energies, forces and stress of `stack`, which is that of the checkpoint; nothing else is to be read of it.

    Where the means are those of one set of parameters that set alone; where the members share all but the last layer, without the forces
    of each. None where it would save nothing: means that need every member, and a calculated baseline, which would be called twice.
    """
    if checkpoint.surfaces or isinstance(stack.baseline, Calculated):
        return None
    first = stack.parameters["embedding"]
    if checkpoint.center is not None:
        checkpoint = replace(checkpoint, parameters=checkpoint.center, center=None, last_layer=None)
    elif not shares_trunk(checkpoint.parameters):
        return None
    each = checkpoint.members == 1
    return load_stack(checkpoint, first.dtype, first.device, compile, tables, forces_epistemic=each)
