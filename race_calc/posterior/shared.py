"""Members shared among the ranks of an MPI communicator: each rank evaluates its own on the whole structure, one sum joins them.

No ghosts and no work done twice; every rank has the whole prediction. For members that are models of their own: of those that share
a trunk each rank evaluates all, as the trunk is most of the work.
"""

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from race_calc.data.graph import Graph
from race_calc.model.outputs import Outputs
from race_calc.model.parameters import select_members, shares_trunk
from race_calc.posterior.checkpoint import Checkpoint
from race_calc.posterior.load import load_stack
from race_calc.posterior.stack import StackPosterior
from race_calc.uncertainty.prediction import Prediction

Shapes = list[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class SharedMembers:
    """whole: the posterior, of which only what it tells of outputs is used. own: that of the members of this rank, None where there are
    more ranks than members; `first` of them, `members` in all. comm: as mpi4py has them."""

    whole: StackPosterior
    own: StackPosterior | None
    first: int
    members: int
    comm: Any

    @property
    def model(self) -> Any:
        return self.whole.model

    @property
    def baseline(self) -> Any:
        return self.whole.baseline

    def predict(self, graph: Graph) -> Prediction:
        """The same on every rank; all of them must call it, with the same graph. Raises ValueError as `StackPosterior.predict` does."""
        mine = None if self.own is None else self.own.outputs(graph, torch.get_num_threads()).flat()
        shapes: Shapes = self.comm.bcast(None if mine is None else [(name, tuple(value.shape[1:])) for name, value in mine.items()], root=0)
        rows = {name: 1 if name == "features" else self.members for name, _ in shapes}
        sizes = [rows[name] * int(np.prod(shape)) for name, shape in shapes]
        buffer = np.zeros(sum(sizes))
        joined = {name: part.reshape(rows[name], *shape) for (name, shape), part in zip(shapes, np.split(buffer, np.cumsum(sizes)[:-1]))}
        for name, value in (mine or {}).items():
            if name != "features":
                joined[name][self.first : self.first + len(value)] = value.double().cpu().numpy()
            elif not self.first:  # they are those of the first member
                joined[name][:] = value[:1].double().cpu().numpy()
        add_up(self.comm, buffer)  # zeros and one value each: exact, in any order
        outputs = Outputs.of_flat(map(torch.from_numpy, joined.values()), list(joined)[5:])
        return self.whole.told(outputs, graph, self.whole.known(graph), self.whole.distance(outputs, graph))


def share(checkpoint: Checkpoint, stack: StackPosterior, comm: Any, compile: bool | None, tables: bool) -> StackPosterior | SharedMembers:
    """The posterior of the checkpoint, `stack`, shared among the ranks of `comm`; itself where there is nothing to share."""
    parameters = checkpoint.parameters
    if comm.size == 1 or checkpoint.members == 1 or shares_trunk(parameters) or checkpoint.center is not None or checkpoint.surfaces:
        if comm.rank == 0 and comm.size > 1:
            warnings.warn("members of this model are not divided among ranks: one rank with more threads is as fast", stacklevel=3)
        return stack
    mine = np.array_split(np.arange(checkpoint.members), comm.size)[comm.rank].tolist()
    first = stack.parameters["embedding"]
    if comm.rank == 0 and comm.size > checkpoint.members:
        warnings.warn(
            f"{comm.size} ranks share {checkpoint.members} members: {comm.size - checkpoint.members} of them are idle", stacklevel=3
        )
    plain = replace(checkpoint.model.plan, config=checkpoint.model.plan.config.model_copy(update={"baseline": "none"}))  # `whole` has it
    part = replace(checkpoint, parameters=select_members(parameters, mine), model=replace(checkpoint.model, plan=plain), baseline={})
    own = load_stack(part, first.dtype, first.device, compile, tables) if mine else None
    return SharedMembers(replace(stack, step=None), own, mine[0] if mine else checkpoint.members, checkpoint.members, comm)


def add_up(comm: Any, values: np.ndarray) -> None:
    """Put the sum over all ranks in the place of each one's values."""
    comm.Allreduce(_in_place(), values)


def _in_place() -> Any:
    from mpi4py import MPI  # here: whoever has a communicator has it

    return MPI.IN_PLACE
