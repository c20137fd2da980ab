"""Diagonal Laplace over all weights, for energies and force components with Gaussian noises.

MacKay 1992 (Neural Computation 4, 415), with the diagonal of the generalised Gauss–Newton matrix. The prior is
N(0, 1/τ); the noise of a total energy has the variance n_atoms σ_E² (size-extensive), that of a force component σ_F².
The log marginal likelihood in Laplace's approximation at the MAP θ, maximised over τ, σ_E² and σ_F²:

    log Z = − ½ S_E/σ_E² − ½ N_E log 2πσ_E² − ½ S_F/σ_F² − ½ N_F log 2πσ_F²
            − ½ τ|θ|² + ½ D log τ − ½ Σ_d log P_d,     P_d = h_E,d/σ_E² + h_F,d/σ_F² + τ

It is that of the energies divided by √n_atoms; for the energies themselves −½ Σ_structures log n_atoms comes on top,
which depends on nothing that is fitted. With linear outputs and P really diagonal it is exact. But a diagonal counts
every weight as a direction of its own: γ = Σ_d (P_d − τ)/P_d, which the full matrix keeps below the number of outputs
N, has no such limit, and at the maximum S/σ² = N − γ of a kind. So **with more weights than outputs the noises can
come out far above the residual variances**: compare the two before trusting them.

========== =================================== =================================================
symbol     variable                            meaning and unit
========== =================================== =================================================
θ          weights (D,)                        the MAP
h_E        energies.curvature (D,)             Σ_structures (∂E/∂θ)²/n_atoms, eV² per atom
S_E, N_E   energies.squares, energies.count    Σ_structures ΔE²/n_atoms, number of structures
h_F        forces.curvature (D,)               Σ_components (∂F/∂θ)², (eV/Å)²
S_F, N_F   forces.squares, forces.count        Σ_components ΔF², number of components
τ          prior_precision
σ_E², σ_F² energy_noise, force_noise           eV² per atom, (eV/Å)²
1/P        variance (D,)                       posterior variance of each weight
========== =================================== =================================================
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

REACH = 30.0  # nats that each logarithm may move from its start: a factor of 10¹³
SMALLEST = 1e-12  # noise variance and mean square weight of the start, if the data say less


@dataclass(frozen=True)
class Observations:
    """Sums over all outputs of one kind: curvature h (D,), sum of squared residuals S, number N. `fit` makes float64 arrays of h."""

    curvature: Any
    squares: float
    count: int


def fit(weights: Tensor, energies: Observations, forces: Observations, noises: tuple[float, float] | None = None) -> "LaplaceFit":
    """The posterior with the τ, σ_E² and σ_F² that maximise log Z; symbols and units are in the module's table.

    `noises`: σ_E² and σ_F² where they are known, for example from held-back data; then only τ is sought.

    A kind with count 0 is absent: its curvature and squares must be zero and its noise is None.
    Raises ValueError for numbers that are not finite or negative, sums without a count, and no data.
    """
    theta = weights.detach().double().cpu().numpy()
    energies, forces = _checked("energy", energies, theta), _checked("force", forces, theta)
    observations = [kind for kind in (energies, forces) if kind.count > 0]
    if not np.isfinite(theta).all():
        raise ValueError("the weights are not finite: fit Laplace to a model that was trained to the end")
    if not observations:
        raise ValueError("there are no energies and no forces: give the sums over a training set")
    if not any(kind.curvature.any() for kind in observations):
        raise ValueError("all curvatures are zero, so no output depends on a weight: check the derivatives")
    known = [noise for noise, kind in zip(noises or (), (energies, forces)) if kind.count > 0]
    if not all(math.isfinite(noise) and noise > 0 for noise in known):
        raise ValueError(f"the noises are {noises}: give variances > 0")
    logs = _maximum(theta, observations, known)
    tau, *fitted = (float(value) for value in np.exp(logs))
    return LaplaceFit(
        mean=weights.detach(),
        variance=torch.from_numpy(1 / _precision(logs, observations)).to(weights),
        prior_precision=tau,
        energy_noise=fitted.pop(0) if energies.count else None,
        force_noise=fitted.pop(0) if forces.count else None,
        log_evidence=log_evidence(logs, theta, observations)[0],
    )


def log_evidence(logs: np.ndarray, theta: np.ndarray, observations: Sequence[Observations]) -> tuple[float, np.ndarray]:
    """log Z and its gradient with respect to `logs`, the logarithms of τ and of the noise variance of each kind."""
    tau, noises = math.exp(logs[0]), np.exp(logs[1:])
    precision = _precision(logs, observations)  # (D,)
    square = float(theta @ theta)
    value = 0.5 * (len(theta) * logs[0] - tau * square - np.log(precision).sum())
    gradient = [0.5 * (len(theta) - tau * square - (tau / precision).sum())]
    for kind, noise, log_noise in zip(observations, noises, logs[1:]):
        value -= 0.5 * (kind.squares / noise + kind.count * (math.log(2 * math.pi) + log_noise))
        determined = (kind.curvature / noise / precision).sum()  # MacKay's γ, the share of this kind
        gradient.append(0.5 * (kind.squares / noise - kind.count + determined))
    return float(value), np.array(gradient)


@dataclass(frozen=True)
class LaplaceFit:
    """A diagonal Gaussian over D weights.

    =============== ====== ==============================================================
    field           shape  meaning
    =============== ====== ==============================================================
    mean            (D,)   the MAP weights
    variance        (D,)   1/(h_E/σ_E² + h_F/σ_F² + τ), dtype and device of the weights
    prior_precision        τ
    energy_noise           σ_E², eV² per atom; None without energies
    force_noise            σ_F², (eV/Å)²; None without forces
    log_evidence           log Z in nats, of the energies divided by √n_atoms
    =============== ====== ==============================================================
    """

    mean: Tensor
    variance: Tensor
    prior_precision: float
    energy_noise: float | None
    force_noise: float | None
    log_evidence: float


def sample(fit: LaplaceFit, n: int, seed: int, temperature: float = 1.0) -> Tensor:
    """n draws (n, D), their variances times `temperature`."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, len(fit.mean), generator=generator, dtype=torch.float64).to(fit.mean)
    return fit.mean + (temperature * fit.variance).sqrt() * z


def _precision(logs: np.ndarray, observations: Sequence[Observations]) -> np.ndarray:
    """P (D,)."""
    return math.exp(logs[0]) + sum(kind.curvature * math.exp(-log) for kind, log in zip(observations, logs[1:]))


def _maximum(theta: np.ndarray, observations: Sequence[Observations], known: Sequence[float]) -> np.ndarray:
    """The logarithms that maximise log Z, from the variances of weights and residuals; those of `known` noises are fixed."""
    variances = [float(theta @ theta) / len(theta), *(kind.squares / kind.count for kind in observations)]
    start = np.log(np.maximum(variances, SMALLEST))
    start[0] = -start[0]  # a precision
    size = len(theta) + sum(kind.count for kind in observations)

    def objective(logs: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = log_evidence(logs, theta, observations)
        return -value / size, -gradient / size

    bounds = [(log - REACH, log + REACH) for log in start]
    if known:
        start[1:] = np.log(known)
        bounds[1:] = [(log, log) for log in start[1:]]
    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000}
    return minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x  # type: ignore[call-overload]  # pairs


def _checked(name: str, kind: Observations, theta: np.ndarray) -> Observations:
    h = kind.curvature.detach().double().cpu().numpy()
    squares, count = float(kind.squares), int(kind.count)
    if h.shape != theta.shape:
        raise ValueError(f"{name}_curvature has shape {h.shape}, the weights {theta.shape}: give one number a weight")
    if not (np.isfinite(h).all() and math.isfinite(squares)):
        raise ValueError(f"{name}_curvature or {name}_squares is not finite: look for broken training structures")
    if (h < 0).any() or squares < 0 or count < 0:
        raise ValueError(f"{name}_curvature, {name}_squares or {name}_count is negative: give sums of squares")
    if count == 0 and (h.any() or squares):
        raise ValueError(f"{name}_count is 0, but its sums are not: give the number of outputs they were summed over")
    return Observations(h, squares, count)
