"""In TorchScript: pairs of atoms in the order in which the network computes, as `race_calc.model.layout` has them for torch's operations.

Atoms are sorted by their number of neighbours and cut into a few blocks; inside a block every atom has the same number of slots. Empty
slots carry zeros and contribute nothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from race_calc.model.layout import MAX_BLOCKS


class Around(NamedTuple):
    """N atoms, E pairs sorted by their centre, P slots.

    ============ ========= ==================================================================
    field        shape     meaning
    ============ ========= ==================================================================
    rank         (N,)      order of the input → model order
    species      (N,)      species index, model order
    by_species   (N,)      permutation that groups the atoms by species
    from_species (N,)      its inverse
    counts                 atoms of each species
    order        (E,)      pairs in the order of their slots
    slot         (E,)      slot of each of these
    neighbours             of every block (P,): the atom in each slot, model order; 0 in an empty slot
    sizes                  atoms of every block, in model order one after the other
    slots                  its slots P
    ============ ========= ==================================================================
    """

    rank: Tensor
    species: Tensor
    by_species: Tensor
    from_species: Tensor
    counts: list[int]
    order: Tensor
    slot: Tensor
    neighbours: list[Tensor]
    sizes: list[int]
    slots: list[int]


def inverse(permutation: Tensor) -> Tensor:
    return torch.empty_like(permutation).index_copy(0, permutation, torch.arange(permutation.shape[0], device=permutation.device))


def blocks(degree: list[int], most: int) -> tuple[list[int], list[int]]:
    """Of atoms with these numbers of neighbours, rising: how many each block has, and how many slots each of its atoms."""
    sizes: list[int] = []
    widths: list[int] = []
    if len(degree) > 0:
        step, last = max(4, -(-degree[-1] // most)), -1
        for d in degree:
            group = -(-d // step)
            if group != last:
                sizes.append(0)
                widths.append(d)
                last = group
            sizes[-1] += 1
            widths[-1] = d
    return sizes, widths


def around(species: Tensor, n_species: int, centre: Tensor, neighbour: Tensor, most: int = MAX_BLOCKS) -> Around:
    """Of species indices (N,) and the centre and neighbour (E,) of every directed pair."""
    degree = torch.bincount(centre, minlength=species.shape[0])
    atoms = torch.argsort(degree, stable=True)
    rank, degree, species = inverse(atoms), degree.index_select(0, atoms), species.index_select(0, atoms)
    rising: list[int] = degree.tolist()
    sizes, widths = blocks(rising, most)
    slots = [size * width for size, width in zip(sizes, widths)]
    own = rank.index_select(0, centre)
    order = torch.argsort(own, stable=True)
    own = own.index_select(0, order)
    width = torch.repeat_interleave(
        torch.tensor(widths, device=degree.device, dtype=torch.long), torch.tensor(sizes, device=degree.device, dtype=torch.long)
    )
    before = torch.cumsum(width, 0) - width - (torch.cumsum(degree, 0) - degree)  # slots, less the pairs, of the atoms before
    slot = torch.arange(own.shape[0], device=own.device) + before.index_select(0, own)
    others = rank.index_select(0, neighbour).index_select(0, order)
    filled = torch.zeros(sum(slots), dtype=torch.long, device=own.device).index_copy(0, slot, others)
    by_species = torch.argsort(species, stable=True)
    counts: list[int] = torch.bincount(species, minlength=n_species).tolist()
    return Around(rank, species, by_species, inverse(by_species), counts, order, slot, filled.split(slots), sizes, slots)
