"""Outputs beside the energy and the heads that they make: energy variances and force covariances.

Energy variance of a structure: Σ_i softplus(mean over layers of o_i + offset), size-extensive.
Force covariance, `matrix-log`: Σ_i = exp(S_i) with the symmetric S_i built from 1×0e (trace) and 1×2e
(traceless part), so Σ_i rotates with the structure. `cholesky`: six invariants fill a lower triangle in
the laboratory frame (the paper's form; does not rotate).
"""

import math
from collections.abc import Iterable
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from race_calc import moved_names
from race_calc.model.angular import clebsch_gordan
from race_calc.model.channels import Channel, Output, Spread, register_head
from race_calc.model.likelihood import whitened
from race_calc.model.log_covariance import LogCovariance
from race_calc.model.stress_covariance import StressCovariance

FORCE_NOISE = 1e-6  # (eV/Å)²: (1 meV/Å)², below the noise of converged DFT forces; the authors' 1e-3 hides it


class EnergyVariance(Spread):
    """σ² (M, B) in eV²: positive variances of the atoms, summed."""

    name, offset, per_structure, dimension = "energy_var", "energy_var_offset", True, 1
    channels, compiled = (Channel("energy_var"),), "variance"

    def start(self, energy_var_per_atom: float, force_var: float, virial_var_per_atom: float = 1.0) -> float:
        """The inverse of softplus."""
        variance = max(energy_var_per_atom, 1e-12)
        return math.log(math.expm1(variance)) if variance < 30 else variance

    def value(self, channels: dict[str, Tensor], offset: Tensor) -> Tensor:
        return softplus(channels["energy_var"][..., 0] + offset[:, None])

    def parts(self, difference: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return difference**2 / value, value.log()


class ForceCovariance(Spread):
    """Σ (M, N, 3, 3) in (eV/Å)², from what a form stores."""

    name, offset, dimension = "force_cov", "force_cov_offset", 3

    def start(self, energy_var_per_atom: float, force_var: float, virial_var_per_atom: float = 1.0) -> float:
        return math.log(max(force_var, 1e-12))


class MatrixLog(LogCovariance, ForceCovariance):
    """Stores S = log Σ."""

    noise = FORCE_NOISE
    channels, compiled = (Channel("force_cov_trace"), Channel("force_cov_tensor", "2e")), "log_covariance"

    def value(self, channels: dict[str, Tensor], offset: Tensor) -> Tensor:
        return log_covariance(channels["force_cov_trace"][..., 0], channels["force_cov_tensor"][..., 0], offset)


class Cholesky(ForceCovariance):
    """Stores the lower triangle L of Σ = L Lᵀ + noise · 1."""

    channels = (Channel("force_cov_triangle", width=6),)

    def value(self, channels: dict[str, Tensor], offset: Tensor) -> Tensor:
        """The diagonal through exp."""
        invariants = channels["force_cov_triangle"]  # (M, N, 6)
        x, y, z = torch.exp(invariants[..., :3] + offset[:, None, None] / 2).unbind(-1)
        zero = torch.zeros_like(x)
        a, b, c = invariants[..., 3:].unbind(-1)
        return torch.stack([x, zero, zero, a, y, zero, b, c, z], dim=-1).unflatten(-1, (3, 3))

    def parts(self, difference: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return whitened(difference, self.covariance(value))

    def covariance(self, value: Tensor) -> Tensor:
        return value @ value.transpose(-1, -2) + FORCE_NOISE * torch.eye(3, dtype=value.dtype, device=value.device)

    def members(self, value: np.ndarray) -> np.ndarray:
        return value @ value.swapaxes(-1, -2) + FORCE_NOISE * np.eye(3)


ENERGY_VARIANCE = EnergyVariance()
FORCE_COVARIANCE = {"matrix-log": MatrixLog(), "cholesky": Cholesky()}  # by `model.force_covariance`
register_head("mse")
register_head("energy", ENERGY_VARIANCE)
register_head("joint", ENERGY_VARIANCE, FORCE_COVARIANCE)
register_head("joint-stress", ENERGY_VARIANCE, FORCE_COVARIANCE, StressCovariance())


def initial_offsets(
    outputs: Iterable[Output], energy_var_per_atom: float, force_var: float, virial_var_per_atom: float = 1.0
) -> dict[str, float]:
    """Offsets at which outputs start at the residual variances of the data (eV² per atom, (eV/Å)², eV² per atom)."""
    known = energy_var_per_atom, force_var, virial_var_per_atom
    return {output.offset: output.start(*known) for output in outputs if output.offset}


def log_covariance(trace_part: Tensor, tensor_part: Tensor, offset: Tensor) -> Tensor:
    """S (M, N, 3, 3) = (trace part + offset) · 1 + traceless part, in log (eV/Å)². `offset` (M,)."""
    basis = torch.tensor(_traceless_basis(), dtype=tensor_part.dtype, device=tensor_part.device)
    eye = torch.eye(3, dtype=trace_part.dtype, device=trace_part.device)
    return (trace_part + offset[:, None])[..., None, None] * eye + torch.einsum("mna,aij->mnij", tensor_part, basis)


@cache
def _traceless_basis():
    """(5, 3, 3): the symmetric traceless matrix of each 2e component, as in e3nn's CartesianTensor("ij=ji")."""
    return clebsch_gordan(1, 1, 2).transpose(2, 0, 1)


__getattr__ = moved_names(__name__)
