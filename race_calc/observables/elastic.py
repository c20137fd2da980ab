"""Elastic constants of a crystal, by member.

============ ===================================================== ======================================
symbol       formula                                               here
============ ===================================================== ======================================
C⁰           (1/V) ∂²E/∂ε∂ε at fixed fractional coordinates        `ElasticConstants.clamped`
Λ, Φ         ∂²E/∂u∂ε, ∂²E/∂u∂u                                    `race_calc.observables.second_derivatives`
C            C⁰ − Λᵀ Φ⁺ Λ / V: the atoms follow the strain         `ElasticConstants.relaxed`
============ ===================================================== ======================================

Φ⁺ leaves out translations of the whole crystal. Source: Wu, Vanderbilt, Hamann, Phys. Rev. B 72, 035105 (2005), eq. 14.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units

from race_calc.observables.members import Estimate, estimate
from race_calc.observables.second_derivatives import hessians, strain_derivatives
from race_calc.uncertainty.predictor import Predictor
from race_calc.uncertainty.scores import fills_space


@dataclass(frozen=True, eq=False)
class ElasticConstants:
    """6×6 in eV/Å³, Voigt's order (xx, yy, zz, yz, xz, xy); GPa: divide by `ase.units.GPa`.

    `relaxed`: atoms find their places in the strained cell, as in an experiment. `clamped`: they keep their fractional coordinates.
    """

    relaxed: Estimate
    clamped: Estimate

    def __str__(self) -> str:
        """The relaxed ones in GPa, with their standard deviations."""
        pairs = zip(self.relaxed.value / units.GPa, self.relaxed.std / units.GPa)
        return "\n".join("  ".join(f"{c:7.1f} ± {s:4.1f}" for c, s in zip(*row)) for row in pairs) + "  GPa"


def elastic_constants(potential: Predictor, atoms: Atoms) -> ElasticConstants:
    """Of a crystal at rest, with σ from the members of the potential.

    `atoms`: relaxed, cell and positions (`ase.filters.FrechetCellFilter`), and as small a cell as has the crystal: 6 N + 43 structures
    are predicted. `potential`: a RACECalculator, a committee, or whatever gives energies and forces of its members.

    Raises ValueError for a structure without a volume in three periodic directions, a potential of one member, and one that does not
    tell energies and forces of its members.
    """
    if not fills_space(atoms):
        raise ValueError(f"elastic constants are of crystals: here pbc is {atoms.pbc.tolist()} and the rank of the cell {atoms.cell.rank}")
    volume = float(atoms.cell.volume)
    of_strain, mixed = strain_derivatives(potential, atoms)
    of_atoms = hessians(potential, atoms)
    still = np.eye(3 * len(atoms)) - np.tile(np.eye(3), (len(atoms), len(atoms))) / len(atoms)  # without translations
    response = np.array([np.linalg.pinv(still @ one @ still, rcond=1e-8, hermitian=True) for one in of_atoms])
    followed = np.einsum("mai,mab,mbj->mij", mixed, response, mixed)
    relaxed, clamped = (of_strain - followed) / volume, of_strain / volume
    return ElasticConstants(estimate(potential, relaxed), estimate(potential, clamped))
