"""A covariance that is stored as its logarithm: S (M, n, k, k) symmetric, Σ = exp S."""

import numpy as np
import torch
from torch import Tensor

from race_calc.model.channels import Spread
from race_calc.model.likelihood import vector_nll


class LogCovariance(Spread):
    """Σ⁻¹ = exp(−S) and log det Σ = tr S: the likelihood needs no decomposition."""

    def nll(self, difference: Tensor, value: Tensor, beta: float = 0.0) -> Tensor:
        inverse = torch.linalg.matrix_exp(-value)
        quadratic = torch.einsum("mni,mnij,mnj->mn", difference, inverse, difference)
        return vector_nll(quadratic, value.diagonal(dim1=-2, dim2=-1).sum(-1), beta, dimension=value.shape[-1])

    def covariance(self, value: Tensor) -> Tensor:
        return torch.linalg.matrix_exp(value)

    def members(self, value: np.ndarray) -> np.ndarray:
        """NaN where an entry is not finite."""
        finite = np.isfinite(value).all(axis=(-2, -1), keepdims=True)
        values, axes = np.linalg.eigh(np.where(finite, value, 0.0))  # eigh may raise on NaN
        with np.errstate(over="ignore", invalid="ignore"):
            return np.where(finite, (axes * np.exp(values)[..., None, :]) @ axes.swapaxes(-1, -2), np.nan)
