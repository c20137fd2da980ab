"""In TorchScript: spherical harmonics and radial basis of vectors, as `race_calc.model.angular` and `race_calc.model.radial` have them,
and the repulsion of nuclei (`race_calc.model.repulsion`); differentiated by torch."""

import math

import numpy as np
import torch
from torch import Tensor

from race_calc.interfaces.export import repulsion_pairs
from race_calc.model.angular import _raise_factor, clebsch_gordan
from race_calc.model.repulsion import AMPLITUDES, DECAYS


def envelope(x: Tensor) -> Tensor:
    """u(x) of `race_calc.model.cutoff`."""
    x2 = x * x
    return torch.where(x < 1.0, 1.0 - 6.0 * x2 + 8.0 * x2 * x - 3.0 * x2 * x2, torch.zeros_like(x))


class Raise(torch.nn.Module):
    """Y_l, Y_1 → Y_{l+1}."""

    def __init__(self, l: int):
        super().__init__()
        coefficients = clebsch_gordan(l, 1, l + 1) * _raise_factor(l)
        self.register_buffer("coefficients", torch.tensor(coefficients).flatten(0, 1))

    def forward(self, lower: Tensor, first: Tensor) -> Tensor:
        return (lower[..., :, None] * first[..., None, :]).flatten(-2) @ self.coefficients


class Bases(torch.nn.Module):
    """Vectors r_ij (T, E, 3) in Å → Y (T, E, (l_max + 1)²) and B (T, E, n_bessel), in the dtype of the vectors."""

    def __init__(self, l_max: int, n_bessel: int, cutoff: float):
        super().__init__()
        self.l_max, self.cutoff = l_max, cutoff
        self.register_buffer("waves", math.pi * torch.arange(1, n_bessel + 1, dtype=torch.float64))
        self.raises = torch.nn.ModuleList([Raise(l) for l in range(1, l_max)])

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        distance = (vectors * vectors).sum(-1, keepdim=True).sqrt()
        found = [torch.ones_like(distance)]
        if self.l_max > 0:
            first = math.sqrt(3.0) * vectors / distance
            found.append(first)
            for up in self.raises:
                found.append(up(found[-1], first))
        x = distance / self.cutoff
        return torch.cat(found, -1), math.sqrt(2.0) * torch.sin(x * self.waves) / x * envelope(x)


class Repulsion(torch.nn.Module):
    """Energies (N,) of atoms in eV, float64: half of every pair to each."""

    def __init__(self, numbers: tuple[int, ...], cutoff: float):
        super().__init__()
        self.register_buffer("pairs", torch.tensor(repulsion_pairs(np.array(numbers), cutoff)))
        self.register_buffer("amplitudes", torch.tensor(AMPLITUDES))
        self.register_buffer("decays", torch.tensor(DECAYS))

    def forward(self, species: Tensor, centre: Tensor, neighbour: Tensor, vectors: Tensor) -> Tensor:
        bare, length, reach = self.pairs[species.index_select(0, centre), species.index_select(0, neighbour)].unbind(-1)
        distance = (vectors * vectors).sum(-1).sqrt()
        screen = (self.amplitudes * torch.exp(-self.decays * (distance / length)[:, None])).sum(-1)
        energy = 0.5 * bare / distance * screen * envelope(distance / reach)
        return torch.zeros(species.shape[0], dtype=energy.dtype, device=energy.device).index_add(0, centre, energy)
