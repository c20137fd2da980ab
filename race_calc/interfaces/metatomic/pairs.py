"""In TorchScript: the systems of metatomic side by side. Imports metatomic."""

from typing import List, NamedTuple, Optional  # noqa: UP035  # TorchScript classes take no list[…] and |

import torch
from metatensor.torch import Labels
from metatomic.torch import NeighborListOptions, System
from torch import Tensor

from race_calc.interfaces.metatomic.blocks import Samples


class Pairs(NamedTuple):
    """N atoms of B systems, E directed pairs.

    ========= ======= ===================================
    numbers   (N,)    atomic numbers
    system    (N,)    system of each atom
    atom      (N,)    its number there
    centre    (E,)    i
    neighbour (E,)    j
    vectors   (E, 3)  r_j − r_i in Å, float64
    lengths   (B,)    pairs of each system
    ========= ======= ===================================
    """

    numbers: Tensor
    system: Tensor
    atom: Tensor
    centre: Tensor
    neighbour: Tensor
    vectors: Tensor
    lengths: Tensor


def pairs_of(systems: List[System], options: NeighborListOptions) -> Pairs:  # noqa: UP006
    numbers: List[Tensor] = []  # noqa: UP006
    system: List[Tensor] = []  # noqa: UP006
    atom: List[Tensor] = []  # noqa: UP006
    ends: List[Tensor] = []  # noqa: UP006
    vectors: List[Tensor] = []  # noqa: UP006
    lengths: List[int] = []  # noqa: UP006
    start = 0
    for i, one in enumerate(systems):
        neighbours, n = one.get_neighbor_list(options), len(one)
        pairs = neighbours.samples.values
        numbers.append(one.types.to(torch.long))
        system.append(torch.full((n,), i, dtype=torch.long, device=pairs.device))
        atom.append(torch.arange(n, device=pairs.device))
        ends.append(pairs[:, :2].to(torch.long) + start)
        vectors.append(neighbours.values.reshape(-1, 3).double())
        lengths.append(pairs.shape[0])
        start += n
    both = torch.cat(ends)
    sizes = torch.tensor(lengths, device=both.device)
    return Pairs(torch.cat(numbers), torch.cat(system), torch.cat(atom), both[:, 0], both[:, 1], torch.cat(vectors), sizes)


def samples_of(pairs: Pairs, selected: Optional[Labels]) -> Samples:  # noqa: UP045
    """All atoms, or the selected ones, in their order."""
    systems = pairs.lengths.shape[0]
    if selected is None:
        return Samples(torch.arange(pairs.atom.shape[0], device=pairs.atom.device), pairs.system, pairs.atom, systems)
    system, atom = selected.column("system").to(torch.long), selected.column("atom").to(torch.long)
    first = torch.bincount(pairs.system, minlength=systems).cumsum(0)
    before = torch.cat([torch.zeros_like(first[:1]), first[:-1]])
    return Samples(before.index_select(0, system) + atom, system, atom, systems)
