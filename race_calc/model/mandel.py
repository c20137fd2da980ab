"""Mandel vectors of symmetric matrices, differentiable; see `race_calc.uncertainty.mandel`."""

import torch
from torch import Tensor

from race_calc.uncertainty.mandel import WEIGHTS
from race_calc.uncertainty.prediction import VOIGT


def mandel(matrices: Tensor) -> Tensor:
    """(…, 3, 3) → (…, 6). Of a matrix that is symmetric but for rounding the two halves are averaged."""
    row, column = VOIGT
    voigt = 0.5 * (matrices[..., row, column] + matrices[..., column, row])
    return voigt * torch.tensor(WEIGHTS, dtype=matrices.dtype, device=matrices.device)
