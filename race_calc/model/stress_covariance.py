"""Predicted covariance of the stress: a symmetric 6×6 matrix that rotates with the structure.

============ ============================================================ =====================================
symbol       equation                                                     here
============ ============================================================ =====================================
σ            stress as a Mandel vector of six = 1×0e + 1×2e               `race_calc.uncertainty.mandel`
S_i          symmetric 6×6 = 2×0e + 2×2e + 1×4e, 4e from a pair of 2e     `StressCovariance.value`
S            mean over atoms of S_i + (offset + log(N/V²)) · 1            `StressCovariance.of_structures`
Σ            exp S, in (eV/Å³)²                                           `covariance`, `members`
NLL          ½ [dᵀ exp(−S) d + tr S]                                      `LogCovariance.parts`
============ ============================================================ =====================================

σ is a sum over N atoms divided by V: of independent errors its variance is ∝ N/V². The coefficients that couple 0e and 2e
to the blocks of S are Clebsch-Gordan coefficients, so Σ of a rotated structure is R Σ Rᵀ with the rotation R of Mandel vectors.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from race_calc.model.angular import clebsch_gordan
from race_calc.model.channels import Channel
from race_calc.model.log_covariance import LogCovariance
from race_calc.uncertainty.mandel import WEIGHTS, voigt_covariance
from race_calc.uncertainty.prediction import VOIGT

STRESS_NOISE = 4e-8  # (eV/Å³)²: (0.03 GPa)², below that of converged DFT stresses


class StressCovariance(LogCovariance):
    """Stores S = log Σ of every structure, in Mandel notation; without a volume it is not finite. Members have Σ in Voigt's."""

    name, offset, per_structure, dimension = "stress_cov", "stress_cov_offset", True, 6
    noise = STRESS_NOISE
    channels = Channel("stress_cov_scalars", width=2), Channel("stress_cov_tensors", "2e", 4)

    def start(self, energy_var_per_atom: float, force_var: float, virial_var_per_atom: float) -> float:
        return math.log(max(virial_var_per_atom, 1e-12))

    def value(self, channels: dict[str, Tensor], offset: Tensor) -> Tensor:
        """S_i + offset · 1 of every atom (M, N, 6, 6)."""
        scalars, tensors = channels["stress_cov_scalars"], channels["stress_cov_tensors"]
        of_scalars, of_mixed, of_tensor, of_pair = (torch.as_tensor(b).to(scalars) for b in basis())
        mixed, tensor, left, right = tensors.unbind(-1)
        found = torch.einsum("mnk,kij->mnij", scalars, of_scalars) + torch.einsum("mna,aij->mnij", mixed, of_mixed)
        found = found + torch.einsum("mna,aij->mnij", tensor, of_tensor) + torch.einsum("mna,mnb,abij->mnij", left, right, of_pair)
        return found + offset[:, None, None, None] * torch.eye(6, dtype=found.dtype, device=found.device)

    def of_structures(self, total: Tensor, layout: Any) -> Tensor:
        atoms = torch.bincount(layout.batch, minlength=layout.n_structures).to(total)
        size = (atoms / layout.volume.to(total) ** 2).log()
        return total / atoms[:, None, None] + size[:, None, None] * torch.eye(6, dtype=total.dtype, device=total.device)

    def members(self, value: np.ndarray) -> np.ndarray:
        """In Voigt notation (M, B, 6, 6); NaN where an entry is not finite."""
        return voigt_covariance(super().members(value))


@cache
def basis() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What makes S, float64: of two scalars (2, 6, 6), of a 2e that couples the two parts of σ (5, 6, 6), of a 2e that acts on its
    traceless part (5, 6, 6), of a pair of 2e, by their 4e (5, 5, 6, 6). Each has a mean square of one over the rotations of a unit."""
    row, column = VOIGT
    traceless = clebsch_gordan(1, 1, 2).transpose(2, 0, 1)  # (5, 3, 3), symmetric, as in e3nn's CartesianTensor("ij=ji")
    vectors = traceless[:, row, column] * np.array(WEIGHTS)
    vectors = vectors / np.linalg.norm(vectors[0])  # (5, 6), orthonormal
    trace = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]) / math.sqrt(3)
    scalars = np.stack([np.outer(trace, trace), vectors.T @ vectors])
    mixed = (trace[:, None] * vectors[:, None, :] + vectors[:, :, None] * trace) / math.sqrt(2)
    second = np.einsum("abc,ai,bj->cij", clebsch_gordan(2, 2, 2), vectors, vectors)
    fourth = np.einsum("abl,ai,bj->lij", clebsch_gordan(2, 2, 4), vectors, vectors)
    pair = np.einsum("abl,lij->abij", clebsch_gordan(2, 2, 4), fourth)
    return scalars, mixed, second, pair
