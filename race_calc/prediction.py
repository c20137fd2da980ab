"""What a posterior says about a batch of structures. NumPy only."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])  # row and column of xx yy zz yz xz xy


class Extra(NamedTuple):
    """Another output: (N, …) of atoms or (B, …) of structures, in the unit of its labels."""

    mean: np.ndarray
    epistemic: np.ndarray  # variance between members of each component; zero for one member


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction:
    """Means and uncertainties for B structures with N atoms in total.

    ============================= =============== ============ ==========================
    key                           shape           unit         meaning
    ============================= =============== ============ ==========================
    energy                        (B,)            eV           mean over the members
    energies                      (N,)            eV           mean energy of each atom
    forces                        (N, 3)          eV/Å         mean
    stress                        (B, 6) or None  eV/Å³        mean, Voigt xx yy zz yz xz
                                                               xy, ASE sign
    energy_epistemic              (B,)            eV²          variance between members
    energy_aleatoric              (B,) or None    eV²          mean predicted variance
    forces_covariance_epistemic   (N, 3, 3), None (eV/Å)²      between members, per atom
    forces_covariance_aleatoric   (N, 3, 3), None (eV/Å)²      mean predicted covariance
    stress_covariance_epistemic   (B, 6, 6), None (eV/Å³)²     between members, Voigt
    bald_energy                   (B,) or None    nat          mutual information
    bald_forces                   (N,) or None    nat          the same, per atom
    batch                         (N,)            -            structure of each atom
    n_members                     int             -            M
    energies_members              (M, B), None    eV           total energy, per member
    forces_members                (M, N, 3), None eV/Å         forces, per member
    calibrated                    bool            -            whether the variances of energies
                                                               and forces are recalibrated
    extra                         name → Extra                 other outputs of the head, by name
    ============================= =============== ============ ==========================

    With one member the epistemic arrays are zero: it was not measured. ``None``
    means that the posterior does not give the quantity. The totals below are
    epistemic + aleatoric; a total is ``None`` where neither part is known (one member and
    no aleatoric part) or the members' own values are not, never a number that looks like
    certainty.
    """

    energy: np.ndarray
    energies: np.ndarray
    forces: np.ndarray
    energy_epistemic: np.ndarray
    forces_covariance_epistemic: np.ndarray | None
    batch: np.ndarray
    n_members: int
    stress: np.ndarray | None = None
    energy_aleatoric: np.ndarray | None = None
    forces_covariance_aleatoric: np.ndarray | None = None
    stress_covariance_epistemic: np.ndarray | None = None
    bald_energy: np.ndarray | None = None
    bald_forces: np.ndarray | None = None
    energies_members: np.ndarray | None = None
    forces_members: np.ndarray | None = None
    calibrated: bool = False
    extra: dict[str, Extra] = field(default_factory=dict)

    @property
    def has_epistemic(self) -> bool:
        """Whether the members can disagree (more than one)."""
        return self.n_members > 1

    @property
    def has_epistemic_forces(self) -> bool:
        """Whether the forces of the members are known, and can disagree."""
        return self.has_epistemic and self.forces_covariance_epistemic is not None

    @property
    def n_atoms(self) -> np.ndarray:
        """Atoms in each structure, (B,)."""
        return np.bincount(self.batch, minlength=len(self.energy))

    @property
    def energy_variance(self) -> np.ndarray | None:
        """Total variance of the energy, (B,) eV²."""
        return self._total(self.energy_epistemic, self.energy_aleatoric)

    @property
    def forces_covariance(self) -> np.ndarray | None:
        """Total covariance of the force on each atom, (N, 3, 3) (eV/Å)²."""
        return self._total(self.forces_covariance_epistemic, self.forces_covariance_aleatoric)

    @property
    def stress_covariance(self) -> np.ndarray | None:
        """Covariance of the Voigt stress, (B, 6, 6) (eV/Å³)²; epistemic part only."""
        return self._total(self.stress_covariance_epistemic, None)

    @property
    def energy_uncertainty(self) -> np.ndarray | None:
        """Standard deviation of the total energy, (B,) eV."""
        return _std(self.energy_variance)

    @property
    def forces_uncertainty(self) -> np.ndarray | None:
        """Standard deviation of each force component, (N, 3) eV/Å."""
        return _std(_diagonal(self.forces_covariance))

    @property
    def stress_uncertainty(self) -> np.ndarray | None:
        """Standard deviation of each Voigt component, (B, 6) eV/Å³; epistemic part only."""
        return _std(_diagonal(self.stress_covariance))

    def _total(self, epistemic, aleatoric):
        if epistemic is None:
            return None
        if aleatoric is not None:
            return epistemic + aleatoric
        return epistemic if self.has_epistemic else None


def principal_std(covariance: np.ndarray) -> np.ndarray:
    """Standard deviation along the longest principal axis, (...,), of covariances (..., 3, 3).

    The square root of the largest eigenvalue: unlike the diagonal it does not
    depend on the orientation of the molecule. NaN where an entry is not finite.
    """
    covariance = np.asarray(covariance, dtype=np.float64)
    finite = np.isfinite(covariance).all(axis=(-2, -1))
    safe = np.where(finite[..., None, None], covariance, 0.0)  # eigvalsh may raise on NaN
    largest = np.linalg.eigvalsh(safe)[..., -1]
    return np.where(finite, np.sqrt(np.maximum(largest, 0.0)), np.nan)


def _diagonal(covariance):
    return None if covariance is None else np.diagonal(covariance, axis1=-2, axis2=-1)


def _std(variance):
    if variance is None:
        return None
    with np.errstate(invalid="ignore"):  # a negative or NaN variance gives NaN
        return np.sqrt(variance)
