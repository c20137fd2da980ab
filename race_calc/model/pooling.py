"""From what the atoms say to one number of the structure: energies, electronic scalars, molecular properties.

=========== ======================================================= ==========================================================
kind        value                                                    for
=========== ======================================================= ==========================================================
energy, sum Σ_i e_i                                                 energies, heat capacities, polarisabilities: they grow
                                                                    with the molecule
mean        Σ_i e_i / N                                             energies of orbitals, gaps
scalar      s · f(Σ_i e_i / s N), f(x) = (x + √(x² + 4)) / 2        what is never negative, such as squared couplings
dipole      |Σ_i q_i r_i + μ_i|, Σ_i q_i = 0                        the length of a dipole moment
extent      Σ_i w_i |r_i − c|² + Σ_i e_i                            ⟨R²⟩; c: the centre of the nuclear charge
=========== ======================================================= ==========================================================

e_i, q_i, w_i and the vectors μ_i are what a model reads from its atoms, in its unit s. Charges are made neutral by taking their mean off,
so that neither value depends on the origin. f is the squareplus of Barron (arXiv:2112.11687), a softplus whose gradient does not vanish
exponentially below zero. It takes the mean of the atoms: of their sum, which begins far from zero, fulvene's coupling was never learned.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from race_calc.model.layout import Layout
from race_calc.model.scatter import sum_by_index

SMALL = 1e-6  # of a dipole in units of s: its length has no derivative at zero


@dataclass(frozen=True)
class Atomic:
    """Of the atoms in model order: `energy` (M, N), in the unit of the result; `channels` by name, (M, N, width) or (M, N, 3, width)."""

    energy: Tensor
    channels: dict[str, Tensor]
    species: tuple[int, ...]  # atomic numbers of the species indices
    layout: Layout
    scale: float

    def total(self, values: Tensor) -> Tensor:
        """(M, N, …) → (M, B, …)."""
        return sum_by_index(values, self.layout.batch, self.layout.n_structures)

    @property
    def sizes(self) -> Tensor:
        """Atoms of each structure (B,)."""
        return torch.bincount(self.layout.batch, minlength=self.layout.n_structures).to(self.energy)


def _sum(atoms: Atomic) -> Tensor:
    return atoms.total(atoms.energy)


def _mean(atoms: Atomic) -> Tensor:
    return atoms.total(atoms.energy) / atoms.sizes


def _scalar(atoms: Atomic) -> Tensor:
    x = _mean(atoms) / atoms.scale
    return atoms.scale * 0.5 * (x + (x * x + 4.0).sqrt())


def _dipole(atoms: Atomic) -> Tensor:
    charges = atoms.channels["charge"][..., 0]
    neutral = charges - (atoms.total(charges) / atoms.sizes)[:, atoms.layout.batch]
    positions = atoms.layout.positions
    middle = atoms.total(positions[None])[0] / atoms.sizes.to(positions)[:, None]  # in float64 where that is: far from the origin
    vectors = neutral[..., None] * (positions - middle[atoms.layout.batch]).to(charges) + atoms.channels["dipole"][..., 0]
    return atoms.scale * (atoms.total(vectors).pow(2).sum(-1) + SMALL**2).sqrt()


def _extent(atoms: Atomic) -> Tensor:
    weights = atoms.channels["weight"][..., 0]
    return atoms.scale * atoms.total(weights * squared_distances(atoms).to(weights)) + atoms.total(atoms.energy)


def squared_distances(atoms: Atomic) -> Tensor:
    """|r_i − c|² (N,) in Å²."""
    positions, batch = atoms.layout.positions, atoms.layout.batch
    charges = torch.tensor(atoms.species, dtype=positions.dtype, device=positions.device)[atoms.layout.species]
    sums = sum_by_index(torch.cat([charges[:, None] * positions, charges[:, None]], dim=1)[None], batch, atoms.layout.n_structures)[0]
    centre = sums[:, :3] / sums[:, 3:]
    return (positions - centre[batch]).pow(2).sum(1)


POOLINGS: dict[str, Callable[[Atomic], Tensor]] = {  # kind → value (M, B)
    "energy": _sum,
    "sum": _sum,
    "mean": _mean,
    "scalar": _scalar,
    "dipole": _dipole,
    "extent": _extent,
}
