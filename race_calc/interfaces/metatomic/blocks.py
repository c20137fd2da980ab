"""In TorchScript: values as metatomic's blocks, of the atoms or structures that were asked for. Imports metatensor."""

from typing import List, NamedTuple  # noqa: UP035  # TorchScript classes take no list[…]

import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from torch import Tensor

from race_calc.interfaces.metatomic.spread import sums


class Samples(NamedTuple):
    """atoms (n,): those that are asked for, among all; system (n,) and number there (n,) of each; of how many systems."""

    atoms: Tensor
    system: Tensor
    number: Tensor
    systems: int


def asked(values: Tensor, samples: Samples, per_atom: bool) -> Tensor:
    """Of all atoms (N, …) → of those that are asked for (n, …), or their sums (B, …)."""
    found = values.index_select(0, samples.atoms)
    return found if per_atom else sums(found, samples.system, samples.systems)


def numbered(name: str, count: int, like: Tensor) -> Labels:
    return Labels([name], torch.arange(count, device=like.device)[:, None].to(torch.int32))


def labelled(values: Tensor, samples: Samples, per_atom: bool, axes: List[str], quantity: str) -> TensorMap:  # noqa: UP006
    """Values (n, …, properties), the axes between of three components each."""
    if per_atom:
        rows = Labels(["system", "atom"], torch.stack([samples.system, samples.number], 1).to(torch.int32))
    else:
        rows = numbered("system", samples.systems, values)
    components: List[Labels] = []  # noqa: UP006
    for axis in axes:
        components.append(numbered(axis, 3, values))
    block = TensorBlock(values, rows, components, numbered(quantity, values.shape[-1], values))
    return TensorMap(numbered("_", 1, values), [block])
