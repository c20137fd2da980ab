"""LLPR: uncertainty in closed form from the features of the last layer. Torch only.

Bigi et al. 2024 (arXiv:2403.02251). Energies and forces are linear in the L weights of the last layer, E = φ·w and
F = G w with G = −∂φ/∂r, so the Gaussian over w is propagated exactly:

    Cov(w) = α² (Λ + τI)⁻¹,   Λ = Σ_structures φφᵀ/(n_atoms σ_E²) + Σ_atoms GᵀG/σ_F²
    α²     = mean over validation structures of ΔE²/(φᵀ (Λ + τI)⁻¹ φ)
    Var(E) = φᵀ Cov(w) φ,   Cov(F) = G Cov(w) Gᵀ

============ ==================================== ==========================================
symbol       variable                             unit
============ ==================================== ==========================================
w₀           mean (L,)                            of the weights
Λ            precision (L, L)                     of 1/weights²
τ, α²        regulariser, scale                   of 1/weights², none
φ            features (B, L)                      eV by weight
G            gradients (N, 3, L)                  eV/Å by weight
ΔE           validation_errors (V,)               eV
R            factor (L, L), Cov(w) = R Rᵀ         of the weights
============ ==================================== ==========================================
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from race_calc.data.targets import Example
from race_calc.model.hardware import member_map
from race_calc.model.parameters import Parameters, is_last_layer
from race_calc.model.race import Race, evaluate
from race_calc.posterior.base import Basis, Fitted
from race_calc.posterior.batch import batch_of
from race_calc.posterior.posthoc import PostHoc, mean_squares, residuals, rows_at_once

PRIOR = 1.0  # precision of a last-layer weight before the data: weights are drawn from N(0, 1)


def fit(mean: Tensor, precision: Tensor, regulariser: float, validation_features: Tensor, validation_errors: Tensor) -> "LastLayerFit":
    """The Gaussian over the last layer, calibrated on V validation structures; float64 inside.

    mean: (L,). precision: (L, L), summed over the training set. validation_features: (V, L), errors: (V,).
    Raises ValueError when Λ + τI is not finite or not positive definite, or no finite positive α² comes out.
    """
    size = len(mean)
    if precision.shape != (size, size):
        raise ValueError(f"the precision has shape {tuple(precision.shape)}, {size} weights need ({size}, {size})")
    if not len(validation_features) == len(validation_errors) > 0:
        raise ValueError(
            f"{len(validation_features)} validation features and {len(validation_errors)} errors: "
            "give one of each for every validation structure, and at least one"
        )
    if not bool(torch.isfinite(precision).all()):
        raise ValueError("the precision is not finite: look for broken structures in the training set")
    eye = torch.eye(size, dtype=torch.float64, device=precision.device)
    lower, failed = torch.linalg.cholesky_ex(precision.double() + regulariser * eye)
    if int(failed):
        raise ValueError(
            f"the precision plus {regulariser:g} is not positive definite at row {int(failed)}: features "
            "depend on each other, or the precision is not a sum of squares; give a larger regulariser"
        )
    root = torch.linalg.solve_triangular(lower, eye, upper=False).T  # (Λ + τI)⁻¹ = root rootᵀ
    expected = (validation_features.double() @ root).square().sum(dim=1)  # (V,) φᵀ (Λ + τI)⁻¹ φ
    scale = (validation_errors.double().square() / expected).mean()
    if not bool(torch.isfinite(scale) & (scale > 0)):
        raise ValueError(
            f"the calibration α² is {float(scale):g}: errors and features of the validation structures must be finite and not all zero"
        )
    return LastLayerFit(mean, root * scale.sqrt(), float(scale))


@dataclass(frozen=True)
class LastLayerFit:
    """A Gaussian over L weights of the last layer.

    =========== ======= =============================================================================
    field       shape   meaning
    =========== ======= =============================================================================
    mean        (L,)    w₀
    factor      (L, L)  upper triangle R with Cov(w) = R Rᵀ, float64; no variance can come out negative
    scale               α²
    covariance  (L, L)  R Rᵀ, derived
    =========== ======= =============================================================================
    """

    mean: Tensor
    factor: Tensor
    scale: float

    @property
    def covariance(self) -> Tensor:
        return self.factor @ self.factor.T


def energy_variance(fit: LastLayerFit, features: Tensor) -> Tensor:
    """Var(E) in eV², (B,), from the features (B, L) of B structures."""
    return (features.double() @ fit.factor).square().sum(dim=1).to(features.dtype)


def force_covariance(fit: LastLayerFit, gradients: Tensor) -> Tensor:
    """Cov(F) of each atom in (eV/Å)², (N, 3, 3), from G (N, 3, L)."""
    root = gradients.double() @ fit.factor  # (N, 3, L)
    return (root @ root.transpose(-1, -2)).to(gradients.dtype)


def sample(fit: LastLayerFit, n: int, seed: int) -> Tensor:
    """n draws (n, L) in antithetic pairs: rows 2i and 2i + 1 are w₀ + δ and w₀ − δ, so that their mean is w₀.

    δ = √L R q with unit vectors q that are orthogonal in each run of L, in random directions. E δδᵀ = Cov(w) for any n, and with
    n = 2L, or a multiple of it, the population covariance of the draws is Cov(w) itself. Raises ValueError for an odd n or one below 2.
    """
    if n < 2 or n % 2:
        raise ValueError(f"{n} samples of the last layer cannot be drawn in pairs: ask for an even number, 2 or more")
    size, pairs = len(fit.mean), n // 2
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(-(-pairs // size), size, size, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(z)
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]  # of all rotations, none more likely (Mezzadri 2007, math-ph/0609050)
    directions = q.transpose(-1, -2).reshape(-1, size)[:pairs].to(fit.factor.device)
    delta = size**0.5 * directions @ fit.factor.T  # (n/2, L)
    return torch.stack([fit.mean + delta, fit.mean - delta], dim=1).flatten(0, 1).to(fit.mean.dtype)


def last_layer_features(model: Race, parameters: Parameters, example: Example, device: torch.device) -> tuple[Tensor, Tensor]:
    """φ (L,) in eV and G (N, 3, L) in eV/Å with E = φ·w and F = G w, float64; w: last-layer weights of all layers in order."""
    last = [name for name in parameters if is_last_layer(name)]
    width = parameters[last[0]].shape[1]
    size = width * len(last)
    stack = {name: value.double().expand(size, *value.shape[1:]) for name, value in parameters.items()}
    for k, name in enumerate(last):
        stack[name] = torch.zeros_like(stack[name])
        stack[name][k * width : (k + 1) * width, :, 0] = torch.eye(width, dtype=torch.float64)
    layout, _ = batch_of([example], model, torch.float64, device)

    def part(*rows: Tensor) -> tuple[Tensor, Tensor]:
        outputs = evaluate(model, dict(zip(stack, rows)), layout)
        return outputs.energy[:, 0], outputs.forces

    step = rows_at_once(example)
    parts = []
    for start in range(0, size, step):
        rows = [value[start : start + step] for value in stack.values()]
        parts.append(member_map(len(rows[0]), device)(part, *rows))
    energy, forces = (torch.cat(kind) for kind in zip(*parts))
    return energy.cpu(), forces.permute(1, 2, 0).cpu()


class Llpr(PostHoc):
    name = "llpr"
    default_members = 30  # 15 pairs: as many evaluations as 16 sets that are no pairs
    shared_trunk = paired = last_layer_covariance = True
    validation_use = "The best weights were chosen on these structures, which also calibrate the posterior."

    def check_members(self, members: int) -> None:
        super().check_members(members)
        if members % 2:
            raise ValueError("members of llpr are drawn in pairs: write an even number")

    def fit(self, one: Parameters, basis: Basis) -> Fitted:
        """Last-layer prediction rigidity, calibrated on the validation structures.

        Last layers are drawn, in pairs, and share the trunk; energies keep their closed form, and forces have it with 2L members.
        The calibration makes the epistemic variance of energies alone explain the errors, as published: what a head predicts
        comes on top.
        """
        errors = [residuals(basis.model, one, example, basis.device) for example in basis.validation]
        noise = mean_squares(errors)
        mean = torch.cat([value[0, :, 0] for name, value in one.items() if is_last_layer(name)]).double().cpu()
        precision = torch.zeros(len(mean), len(mean), dtype=torch.float64)
        for done, example in enumerate(basis.train):
            features, gradients = last_layer_features(basis.model, one, example, basis.device)
            rows = gradients.reshape(-1, len(mean))
            precision += torch.outer(features, features) / (example.graph.n_atoms * noise[0]) + rows.T @ rows / noise[1]
            basis.progress(done + 1, len(basis.train))
        held = [last_layer_features(basis.model, one, example, basis.device) for example in basis.validation]
        energy_errors, force_errors = zip(*errors)
        features = torch.stack([features for features, _ in held])
        found = fit(mean, precision, PRIOR, features, torch.tensor(energy_errors, dtype=torch.float64))
        variances = torch.cat([force_covariance(found, g).diagonal(dim1=-2, dim2=-1).flatten() for _, g in held]).numpy()
        ratio = float(np.mean(np.concatenate([f.ravel() for f in force_errors]) ** 2 / variances))
        record = {"calibration": found.scale, "force_errors_over_variances": ratio, "seed": basis.seed}
        return Fitted(with_last_layers(one, sample(found, basis.members, basis.seed)), record, last_layer=found.covariance.cpu().numpy())


def with_last_layers(one: Parameters, draws: Tensor) -> Parameters:
    """A stack on the trunk of the model `one` (M = 1); a row of draws (members, L): last-layer weights of all layers in order."""
    stack, start = {}, 0
    for name, value in one.items():
        stack[name] = value
        if is_last_layer(name):
            columns = slice(start, start := start + value.shape[1])
            stack[name] = value.repeat(len(draws), 1, 1)
            stack[name][:, :, 0] = draws[:, columns].to(value)
    return stack


POSTERIORS = (Llpr(),)
