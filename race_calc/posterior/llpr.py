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

from race_calc.model.parameters import Parameters
from race_calc.posterior.given import Basis, Fitted
from race_calc.posterior.last_layer import Rows, columns_of, last_layer_weights, rows_of, with_last_layers
from race_calc.posterior.posthoc import PostHoc

PRIOR = 1.0  # precision of a last-layer weight before the data: weights are drawn from N(0, 1)
APART = 1_000_003  # seeds of the draws of two surfaces


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


class Llpr(PostHoc):
    name = "llpr"
    default_members = 30  # 15 pairs: as many evaluations as 16 sets that are no pairs
    shared_trunk = paired = last_layer_covariance = many_surfaces = True
    validation_use = "The best weights were chosen on these structures, which also calibrate the posterior."

    def check_members(self, members: int) -> None:
        super().check_members(members)
        if members % 2:
            raise ValueError("members of llpr are drawn in pairs: write an even number")

    def fit(self, one: Parameters, basis: Basis) -> Fitted:
        """Last-layer prediction rigidity, calibrated on the validation structures; of several surfaces, each by itself.

        Last layers are drawn, in pairs, and share the trunk; energies keep their closed form, and forces have it with 2L members; of
        several surfaces nothing has. The calibration makes the epistemic variance of energies alone explain the errors, as published: what
        a head predicts comes on top.
        """
        models, columns = basis.models, [columns_of(model) for model in basis.models]
        held = [rows_of(models, one, example, basis.device) for example in basis.validation]
        noises = [_noise([rows[k] for rows in held]) for k in range(len(models))]
        means = [last_layer_weights(one, own, k) for k, own in enumerate(columns)]
        precisions = [torch.zeros(len(mean), len(mean), dtype=torch.float64) for mean in means]
        for done, example in enumerate(basis.train):
            for k, rows in enumerate(rows_of(models, one, example, basis.device)):
                if np.isfinite(rows.error):
                    precisions[k] += _told(rows, noises[k])
            basis.progress(done + 1, len(basis.train))
        parameters, fits = one, []
        for k, (mean, precision) in enumerate(zip(means, precisions)):
            known = [rows[k] for rows in held if np.isfinite(rows[k].error)]
            errors = torch.tensor([rows.error for rows in known], dtype=torch.float64)
            fits.append(fit(mean, precision, PRIOR, torch.stack([rows.features for rows in known]), errors))
            parameters = with_last_layers(parameters, sample(fits[k], basis.members, basis.seed + APART * k), columns[k], k)
        if [model.kind for model in models] == ["energy"]:
            ratio = _ratio(fits[0], [rows[0] for rows in held])
            record = {"calibration": fits[0].scale, "force_errors_over_variances": ratio, "seed": basis.seed}
            return Fitted(parameters, record, last_layer=fits[0].covariance.cpu().numpy())
        return Fitted(parameters, {"calibration": [float(f"{found.scale:.4g}") for found in fits], "seed": basis.seed})


def _noise(held: list[Rows]) -> tuple[float, float]:
    """Mean squared error of values, per atom where they are sums over the atoms, and of force components, NaN without forces.

    Raises ValueError where no structure has the value.
    """
    known = [rows for rows in held if np.isfinite(rows.error)]
    if not known:
        raise ValueError("no validation structure has one of the properties: llpr needs labels there, too; look at data.validation")
    forces = [rows.force_errors.ravel() for rows in known if rows.force_errors is not None]
    of_forces = float(np.mean(np.concatenate(forces) ** 2)) if forces else float("nan")
    return float(np.mean([rows.error**2 / rows.size for rows in known])), of_forces


def _told(rows: Rows, noise: tuple[float, float]) -> Tensor:
    """What a structure adds to the precision (L, L)."""
    found = torch.outer(rows.features, rows.features) / (rows.size * noise[0])
    if rows.gradients is None:
        return found
    gradients = rows.gradients.reshape(-1, len(found))
    return found + gradients.T @ gradients / noise[1]


def _ratio(found: LastLayerFit, held: list[Rows]) -> float:
    """Mean squared force error over its variance."""
    gradients = [rows.gradients for rows in held if rows.gradients is not None]
    variances = torch.cat([force_covariance(found, g).diagonal(dim1=-2, dim2=-1).flatten() for g in gradients]).numpy()
    return float(np.mean(np.concatenate([rows.force_errors.ravel() for rows in held if rows.force_errors is not None]) ** 2 / variances))


POSTERIORS = (Llpr(),)
