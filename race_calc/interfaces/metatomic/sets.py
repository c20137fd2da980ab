"""The parameter sets of a checkpoint as the file evaluates them, and how the members follow from them: as `race_calc.posterior.load`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from race_calc.model.parameters import Parameters, expanded, n_members
from race_calc.posterior.base import by_name
from race_calc.posterior.checkpoint import Checkpoint
from race_calc.posterior.pairs import foldable, folded


@dataclass(frozen=True)
class Sets:
    """R parameter sets. members (M, R) and mean (R,): what the M members and their mean are of what the sets say, energies and forces
    alike. heads: sets of which what the head predicts is averaged."""

    parameters: Parameters
    members: Tensor
    mean: Tensor
    heads: list[int]


def sets_of(checkpoint: Checkpoint) -> Sets:
    """The means' own set first where there is one (Laplace); of antithetic pairs their mean and one of each."""
    parameters, m = checkpoint.parameters, checkpoint.members
    eye = torch.eye(m, dtype=torch.float64)
    first = torch.zeros(m + 1, dtype=torch.float64)
    first[0] = 1.0
    if checkpoint.center is not None:
        both = {name: torch.cat([checkpoint.center[name], value]) for name, value in expanded(parameters).items()}
        return Sets(both, torch.cat([torch.zeros(m, 1, dtype=torch.float64), eye], 1), first, list(range(1, m + 1)))
    if by_name(checkpoint.posterior).paired and foldable(parameters):
        pairs = folded(parameters)
        rows = n_members(pairs)
        ones = torch.eye(rows, dtype=torch.float64)
        members = torch.stack([ones[1:], 2 * ones[:1] - ones[1:]], 1).flatten(0, 1)
        return Sets(pairs, members, first[:rows], [0])
    return Sets(parameters, eye, torch.full((m,), 1.0 / m, dtype=torch.float64), list(range(m)))
