"""Linear maps on the channels, one matrix for each member."""

import torch
from torch import Tensor

from race_calc.model.layout import Layout


def dense(x: Tensor, weight: Tensor) -> Tensor:
    """(M, n, C) · (M, C, C') / √C; x may be one for all members."""
    return torch.bmm(x.expand(len(weight), -1, -1), weight) / weight.shape[1] ** 0.5


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """(M, N, k, C) · (M, C, C') on the channels."""
    m, n, k, c = x.shape
    return torch.bmm(x.reshape(m, n * k, c), weight).view(m, n, k, -1)


def per_species(x: Tensor, weight: Tensor, layout: Layout) -> Tensor:
    """Channels of every atom times the matrix of its species: x (M, N, k, C), weight (M, S, C, C')."""
    m, _, k, c = x.shape
    parts = x.index_select(1, layout.by_species).split(layout.counts, dim=1)
    done = [torch.bmm(part.reshape(m, -1, c), weight[:, s]).view(m, part.shape[1], k, -1) for s, part in enumerate(parts) if part.shape[1]]
    return torch.cat(done, dim=1).index_select(1, layout.from_species)
