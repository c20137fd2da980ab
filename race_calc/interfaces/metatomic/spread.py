"""In TorchScript: what a calibration makes of the spread of the members, as `race_calc.uncertainty` has it in NumPy."""

import math

import numpy as np
import torch
from torch import Tensor

from race_calc.posterior.checkpoint import Checkpoint
from race_calc.uncertainty.energy_size import Source


def variance_of(members: Tensor) -> Tensor:
    """Population variance over the members (M, …)."""
    difference = members - members.mean(0, keepdim=True)
    return (difference * difference).mean(0)


def covariance_of(members: Tensor) -> Tensor:
    """The same of vectors (M, N, 3): (N, 3, 3)."""
    difference = members - members.mean(0, keepdim=True)
    return torch.einsum("mni,mnj->nij", difference, difference) / members.shape[0]


def mean_variance(covariance: Tensor) -> Tensor:
    """tr Σ/3 (N,)."""
    return covariance.diagonal(0, -2, -1).sum(-1) / covariance.shape[-1]


def local_mean(values: Tensor, centre: Tensor, neighbour: Tensor, distance: Tensor, reach: float) -> Tensor:
    """`race_calc.uncertainty.surroundings.local_mean`."""
    weight = 0.5 * (1.0 + torch.cos(math.pi * distance / reach))
    total = values.index_add(0, centre, weight * values.index_select(0, neighbour))
    return total / torch.ones_like(values).index_add(0, centre, weight)


def sums(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Of atoms (N, …) → of groups (G, …)."""
    shape = [groups] + list(values.shape[1:])
    return torch.zeros(shape, dtype=values.dtype, device=values.device).index_add(0, group, values)


def axes_of(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (N, 3), not below zero, and axes (N, 3, 3); NaN where an entry is not finite, on which eigh fails."""
    finite = torch.isfinite(covariance).all(-1).all(-1)
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    values, axes = torch.linalg.eigh(torch.where(finite[:, None, None], covariance, eye))
    return torch.where(finite[:, None], values.clamp(min=0.0), torch.full_like(values, math.nan)), axes


def matrix(values: Tensor, axes: Tensor) -> Tensor:
    return (axes * values[:, None, :]) @ axes.transpose(-1, -2)


class EnergyVariance(torch.nn.Module):
    """Each atom's share (N,) of the total variance of its structure's energy, eV²: the shares of all atoms add up to it.

    What is known of the structure alone, the variance of its energy between the members, is shared equally; the aleatoric part and the
    spread of forces are those of each atom. Atoms' own energies do not tell: members agree on sums, not on how they divide them.
    """

    energies: list[float]  # of `EnergySize.of_equal_weight`: scale, exponent and floor, [] without
    forces: list[float]

    def __init__(self, checkpoint: Checkpoint, has_forces: bool):
        super().__init__()
        calibration = None if checkpoint.calibration is None else checkpoint.calibration.energy
        form = None if calibration is None or checkpoint.members == 1 else calibration.form
        self.factors = (1.0, 1.0) if calibration is None else (calibration.epistemic, calibration.aleatoric)
        sources = () if form is None else form.of_equal_weight(has_forces)
        self.energies, self.forces = numbers_of(sources, "energies"), numbers_of(sources, "forces")
        last_layer = np.zeros((0, 0)) if checkpoint.last_layer is None else checkpoint.last_layer
        self.register_buffer("last_layer", torch.tensor(last_layer))

    def forward(
        self, members: Tensor, aleatoric: Tensor, features: Tensor, e: Tensor, nearby: Tensor, system: Tensor, systems: int
    ) -> Tensor:
        """Energies (M, N) of atoms, variances (N,) that were predicted, features (N, L), e and ē (N,) of forces, system (N,) of each."""
        if self.last_layer.shape[0] > 0:
            of_systems = sums(features, system, systems)
            epistemic = ((of_systems @ self.last_layer) * of_systems).sum(-1)
        else:
            epistemic = variance_of(sums(members.transpose(0, 1), system, systems).transpose(0, 1))
        equal = (epistemic / sums(torch.ones_like(aleatoric), system, systems)).index_select(0, system)
        if len(self.energies) == 0:
            return self.factors[0] * equal + self.factors[1] * aleatoric
        scale, exponent, floor = self.energies
        found = scale * (equal + floor) ** exponent
        if len(self.forces) > 0:
            scale, exponent, floor = self.forces
            found = 0.5 * (found + scale * (e + floor) * (nearby + floor) ** (exponent - 1.0))
        return found


def numbers_of(sources: tuple[Source, ...], name: str) -> list[float]:
    """Scale, exponent and floor of the source of that name, none where it is not there."""
    return [number for source in sources if source.name == name for number in (source.scale, source.exponent, source.floor)]


class ForceCovariance(torch.nn.Module):
    """Total covariance (N, 3, 3) (eV/Å)² of forces from its two parts, e and ē (`race_calc.uncertainty.shape_size`)."""

    def __init__(self, checkpoint: Checkpoint, has_aleatoric: bool):
        super().__init__()
        calibration = None if checkpoint.calibration is None else checkpoint.calibration.forces
        form = None if calibration is None or checkpoint.members == 1 else calibration.form
        self.factor = 1.0 if calibration is None else calibration.scale
        self.has_aleatoric, self.has_form = has_aleatoric, form is not None
        numbers = (1.0, 0.0, 0.0, 0.0, 0.0) if form is None else (form.scale, form.shape, form.own, form.floor, form.degree)
        self.scale, self.power, self.own, self.floor, self.degree = numbers
        known = {} if form is None else dict(form.elements)
        self.register_buffer("elements", torch.tensor([known.get(z, 1.0) for z in checkpoint.model.species], dtype=torch.float64))

    def forward(self, epistemic: Tensor, aleatoric: Tensor, e: Tensor, nearby: Tensor, species: Tensor) -> Tensor:
        if not self.has_form:
            return self.factor * (epistemic + aleatoric)
        e = e.clamp(min=0.0)
        size = self.scale * self.elements.index_select(0, species)
        size = size * (e + self.floor) ** self.own * (nearby + self.floor) ** (self.degree - self.own)
        values, axes = axes_of(aleatoric if self.has_aleatoric else epistemic)
        if self.has_aleatoric:
            size = size * mean_variance(aleatoric) ** (1.0 - self.own)
            shape = (values / values[:, 2:]) ** self.power
            shape = shape / shape.mean(1, keepdim=True)
        else:
            unit = torch.where(e[:, None] > 0, values / torch.where(e > 0, e, torch.ones_like(e))[:, None], torch.ones_like(values))
            shape = 1.0 - self.power + self.power * unit
        return matrix(size[:, None] * shape, axes)
