"""A covariance that is stored as its logarithm: S (M, n, k, k) symmetric, Σ = exp S."""

import numpy as np
import torch
from torch import Tensor

from race_calc.model.channels import Spread
from race_calc.model.kernels.symmetric import symmetric_exponential


class LogCovariance(Spread):
    """Σ⁻¹ = exp(−S) and log det Σ = tr S: the likelihood needs no decomposition.

    Where symmetry makes labels exactly zero, and predictions too, the likelihood of Σ has no end. A label is known to within its noise:
    dᵀ Σ⁻¹ d is the expectation over it, tr Σ⁻¹ (d dᵀ + noise · 1), and the likelihood ends at Σ = noise · 1.
    """

    noise: float  # variance of each component of a label

    def parts(self, difference: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        inverse = torch.linalg.matrix_exp(-value)
        quadratic = torch.einsum("mni,mnij,mnj->mn", difference, inverse, difference)
        return quadratic + self.noise * _trace(inverse), _trace(value)

    def covariance(self, value: Tensor) -> Tensor:
        return torch.linalg.matrix_exp(value)

    def members(self, value: np.ndarray) -> np.ndarray:
        """NaN where an entry is not finite."""
        return symmetric_exponential(value)


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
