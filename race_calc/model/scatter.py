"""Sums by index, in one place: torch-scatter where it is installed, else torch itself."""

import torch
from torch import Tensor

try:
    from torch_scatter import scatter_sum as _torch_scatter_sum
except ImportError:  # the extra [scatter] is optional
    _torch_scatter_sum = None


def sum_by_index(values: Tensor, index: Tensor, size: int) -> Tensor:
    """out[:, index[k]] += values[:, k]: (M, K, …) and (K,) → (M, size, …). Differentiable any number of times."""
    if _torch_scatter_sum is not None:
        return _torch_scatter_sum(values, index, dim=1, dim_size=size)
    shape = (values.shape[0], size, *values.shape[2:])
    return torch.zeros(shape, dtype=values.dtype, device=values.device).index_add(1, index, values)
