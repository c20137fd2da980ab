"""Readouts of a layer and what their outputs mean: energies, energy variances, force covariances.

Energy variance of a structure: Σ_i softplus(mean over layers of o_i + offset), size-extensive.
Force covariance, `matrix-log`: Σ_i = exp(S_i) with the symmetric S_i built from 1×0e (trace) and 1×2e
(traceless part), so Σ_i rotates with the structure. `cholesky`: six invariants fill a lower triangle in
the laboratory frame (the paper's form; does not rotate).
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import softplus

from race_calc.model.angular import clebsch_gordan
from race_calc.model.parameters import Parameters
from race_calc.model.plan import LayerPlan
from race_calc.model.radial import scaled_silu

CHOLESKY_JITTER = 1e-6  # (eV/Å)²: (1 meV/Å)², below the noise of converged DFT forces; the authors' 1e-3 hides it


def readout(layer: LayerPlan, at: str, parameters: Parameters, features: list[Tensor],
            detached: bool) -> tuple[Tensor, Tensor | None, Tensor]:
    """Scalar outputs (M, N, K) of a layer, the components (M, N, 5) of its 2e output, or None, and the last-layer
    features (M, N, 64): the outputs are these times `readout.out` / 8. Of a shared trunk the latter two have one row.

    `detached`: gradients of all outputs but the energy stop at the layer's features and at the hidden
    layer that they share with the energy.
    """
    by_key = {ir.key: h for ir, h in zip(layer.outputs, features)}
    scalars = by_key[0, 1].squeeze(2)  # (M, N, C)
    hidden = scaled_silu(_dense(scalars, parameters[f"{at}.readout.hidden"]))
    weight = parameters[f"{at}.readout.out"]
    if detached:
        out = torch.cat([_dense(hidden, weight[:, :, :1]), _dense(hidden.detach(), weight[:, :, 1:])], dim=-1)
    else:
        out = _dense(hidden, weight)
    if f"{at}.readout.tensor" not in parameters:
        return out, None, hidden
    tensors = by_key[2, 1]  # (M, N, 5, C)
    if detached:
        scalars, tensors = scalars.detach(), tensors.detach()
    gates = scaled_silu(_dense(scalars, parameters[f"{at}.readout.gates"]))
    m, n = scalars.shape[:2]
    gated = _dense(tensors.reshape(m, n * 5, -1), parameters[f"{at}.readout.gated"]).view(m, n, 5, -1)
    gated = gated * gates[:, :, None, :]
    return out, _dense(gated.reshape(m, n * 5, -1), parameters[f"{at}.readout.tensor"]).view(m, n, 5), hidden


def _dense(x: Tensor, weight: Tensor) -> Tensor:
    """(M, n, C) · (M, C, C') / √C; x may be one for all members."""
    return torch.bmm(x.expand(len(weight), -1, -1), weight) / weight.shape[1] ** 0.5


def atom_energy_variance(mean_output: Tensor, offset: Tensor) -> Tensor:
    """Positive variances (M, N) in eV² whose sum over the atoms is the energy variance. `offset` (M,)."""
    return softplus(mean_output + offset[:, None])


def log_covariance(trace_part: Tensor, tensor_part: Tensor, offset: Tensor) -> Tensor:
    """S (M, N, 3, 3) = (trace part + offset) · 1 + traceless part, in log (eV/Å)². `offset` (M,)."""
    basis = torch.tensor(_traceless_basis(), dtype=tensor_part.dtype, device=tensor_part.device)
    eye = torch.eye(3, dtype=trace_part.dtype, device=trace_part.device)
    return (trace_part + offset[:, None])[..., None, None] * eye + torch.einsum("mna,aij->mnij", tensor_part, basis)


@lru_cache(maxsize=None)
def _traceless_basis():
    """(5, 3, 3): the symmetric traceless matrix of each 2e component, as in e3nn's CartesianTensor("ij=ji")."""
    return clebsch_gordan(1, 1, 2).transpose(2, 0, 1)


def cholesky_factor(invariants: Tensor, offset: Tensor) -> Tensor:
    """Lower triangle (M, N, 3, 3) in eV/Å from six invariants (M, N, 6); the diagonal through exp. `offset` (M,)."""
    diagonal = torch.exp(invariants[..., :3] + offset[:, None, None] / 2)
    zero = torch.zeros_like(diagonal[..., 0])
    a, b, c = invariants[..., 3:].unbind(-1)
    x, y, z = diagonal.unbind(-1)
    return torch.stack([x, zero, zero, a, y, zero, b, c, z], dim=-1).unflatten(-1, (3, 3))


def initial_offsets(energy_var_per_atom: float, force_var: float) -> dict[str, float]:
    """Offsets at which the heads start at the residual variances of the data (eV² per atom, (eV/Å)²)."""
    energy_var_per_atom = max(energy_var_per_atom, 1e-12)
    inverse_softplus = math.log(math.expm1(energy_var_per_atom)) if energy_var_per_atom < 30 else energy_var_per_atom
    return {"energy_var_offset": inverse_softplus, "force_cov_offset": math.log(max(force_var, 1e-12))}
