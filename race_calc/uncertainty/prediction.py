"""What a posterior says about a batch of structures, and which quantities that gives. NumPy only."""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])  # row and column of xx yy zz yz xz xy
SPREADS = {
    "energy_uncertainty": "energy",
    "forces_uncertainty": "forces_covariance",
    "forces_covariance": "forces_covariance",
    "stress_uncertainty": "stress_covariance",
    "stress_covariance": "stress_covariance",
    "gap_uncertainty": "gap",
}  # → start of the names of their parts
QUANTITIES = {  # all that can be given, by the names of the ASE results and in their order → axis of the structures, or None
    "energy": 0, "free_energy": 0, "energies": None, "forces": None, "stress": 0, "calibrated": None,
    **{name + part: None if name.startswith("forces") else 0 for name in SPREADS for part in ("", "_epistemic", "_aleatoric")},
    "bald_energy": 0, "bald_forces": None, "feature_distance": None, "distance_gap": None,
    "energies_members": 1, "forces_members": None, "stress_members": 1, "gap": 0,
}  # fmt: skip


class Extra(NamedTuple):
    """Another output: (N, …) of atoms or (B, …) of structures, in the unit of its labels."""

    mean: np.ndarray
    epistemic: np.ndarray  # variance between members of each component; zero for one member
    per_structure: bool = False  # results of one structure then have its row only


class Property(NamedTuple):
    """Of B structures, in the unit of the labels; variances (B,) in its square, None where the posterior does not give them."""

    mean: np.ndarray
    std: np.ndarray | None  # total: between the members and predicted by them
    epistemic: np.ndarray | None
    aleatoric: np.ndarray | None

    def of(self, i: int) -> "Property":
        """Of structure i alone."""
        return Property(self.mean[i : i + 1], *(None if values is None else values[i : i + 1] for values in self[1:]))


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction:
    """Means and uncertainties for B structures with N atoms in total.

    ============================= =============== ============ ====================================================
    key                           shape           unit         meaning
    ============================= =============== ============ ====================================================
    energy                        (B,)            eV           mean over the members, or the MAP's (`laplace`)
    energies                      (N,) or None    eV           the same of each atom
    forces                        (N, 3)          eV/Å         the same
    stress                        (B, 6) or None  eV/Å³        the same, Voigt xx yy zz yz xz xy, ASE sign
    energy_epistemic              (B,) or None    eV²          variance between members
    energy_aleatoric              (B,) or None    eV²          mean predicted variance
    energy_unsplit                (B,) or None    eV²          variance of unknown kind, in place of both
    forces_covariance_epistemic   (N, 3, 3), None (eV/Å)²      between members, per atom
    forces_covariance_aleatoric   (N, 3, 3), None (eV/Å)²      mean predicted covariance
    forces_covariance_unsplit     (N, 3, 3), None (eV/Å)²      covariance of unknown kind, in place of both
    forces_nearby                 (N,) or None    (eV/Å)²      mean of tr Σ/3 around each atom (`surroundings`), Σ epistemic
                                                               or unsplit, never calibrated
    numbers                       (N,) or None    -            atomic numbers, beside `forces_nearby`
    stress_covariance_epistemic   (B, 6, 6), None (eV/Å³)²     between members, Voigt
    stress_covariance_aleatoric   (B, 6, 6), None (eV/Å³)²     mean predicted covariance, Voigt
    bald_energy                   (B,) or None    nat          mutual information
    bald_forces                   (N,) or None    nat          the same, per atom
    feature_distance              (N,) or None    -            from the atoms of the training, in last-layer features
    distance_gap                  (N,) or None    Å            how far its distances to others are outside of those of the training
    batch                         (N,)            -            structure of each atom
    n_members                     int             -            M
    paired                        bool            -            members are draws in antithetic pairs
    closed_form                   of names        -            "energy", "forces": epistemic part not from a sample of members
    energies_members              (M, B), None    eV           total energy, per member
    forces_members                (M, N, 3), None eV/Å         forces, per member
    stress_members                (M, B, 6), None eV/Å³        stress, per member
    forces_optional               bool            -            the same potential can leave the spread of forces out, to be faster
    calibrated                    bool            -            whether the variances of energies and forces are recalibrated
    rotates                       bool            -            whether those of forces turn with the structure
    gap                           (B,) or None    eV           between the state that is predicted and the nearest other one, ≥ 0
    gap_epistemic                 (B,) or None    eV²          variance of the members' gaps
    gap_aleatoric                 (B,) or None    eV²          sum of the variances that they predict for both energies
    extra                         name → Extra                 other outputs of the head, by name
    ============================= =============== ============ ====================================================

    With one member the epistemic arrays are zero: it was not measured. ``None`` means that the posterior does not give the quantity. The
    totals below are epistemic + aleatoric, or what is given unsplit; like their parts they are ``None`` where `available` says that they
    are not known, never a number that looks like certainty. Raises ValueError for a variance that is given both unsplit and in parts.
    """

    energy: np.ndarray
    forces: np.ndarray
    batch: np.ndarray
    energies: np.ndarray | None = None
    stress: np.ndarray | None = None
    energy_epistemic: np.ndarray | None = None
    energy_aleatoric: np.ndarray | None = None
    energy_unsplit: np.ndarray | None = None
    forces_covariance_epistemic: np.ndarray | None = None
    forces_covariance_aleatoric: np.ndarray | None = None
    forces_covariance_unsplit: np.ndarray | None = None
    forces_nearby: np.ndarray | None = None
    numbers: np.ndarray | None = None
    stress_covariance_epistemic: np.ndarray | None = None
    stress_covariance_aleatoric: np.ndarray | None = None
    bald_energy: np.ndarray | None = None
    bald_forces: np.ndarray | None = None
    feature_distance: np.ndarray | None = None
    distance_gap: np.ndarray | None = None
    n_members: int = 1
    paired: bool = False
    closed_form: frozenset[str] = frozenset()
    energies_members: np.ndarray | None = None
    forces_members: np.ndarray | None = None
    stress_members: np.ndarray | None = None
    forces_optional: bool = False
    calibrated: bool = False
    rotates: bool = True
    gap: np.ndarray | None = None
    gap_epistemic: np.ndarray | None = None
    gap_aleatoric: np.ndarray | None = None
    extra: dict[str, Extra] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for start in ("energy", "forces_covariance"):
            unsplit, *parts = (getattr(self, f"{start}_{part}") is not None for part in ("unsplit", "epistemic", "aleatoric"))
            if unsplit and any(parts):
                raise ValueError(f"{start}_unsplit and parts of the same variance are given: leave one of them out")

    @cached_property
    def available(self) -> frozenset[str]:
        """The QUANTITIES that it gives."""
        return quantities([name for name, value in vars(self).items() if value is not None], self.n_members)

    def independent_members(self, name: str) -> int | None:
        """How many independent members the spread of "energy" or "forces" is worth; None where it is in closed form or not split.

        Draws in M/2 antithetic pairs around a mean that is known are as good as M/2 + 1 independent ones around their own.
        """
        epistemic = {"energy": self.energy_epistemic, "forces": self.forces_covariance_epistemic}[name]
        if epistemic is None or name in self.closed_form:
            return None
        return self.n_members // 2 + 1 if self.paired else self.n_members

    @property
    def n_atoms(self) -> np.ndarray:
        """Atoms in each structure, (B,)."""
        return np.bincount(self.batch, minlength=len(self.energy))

    @property
    def energy_variance(self) -> np.ndarray | None:
        """Total variance of the energy, (B,) eV²."""
        return self._spread("energy_uncertainty", "")

    @property
    def forces_covariance(self) -> np.ndarray | None:
        """Total covariance of the force on each atom, (N, 3, 3) (eV/Å)²."""
        return self._spread("forces_covariance", "")

    @property
    def stress_covariance(self) -> np.ndarray | None:
        """Total covariance of the Voigt stress, (B, 6, 6) (eV/Å³)²."""
        return self._spread("stress_covariance", "")

    @property
    def energy_uncertainty(self) -> np.ndarray | None:
        """Standard deviation of the total energy, (B,) eV."""
        return self._std("energy_uncertainty", "")

    @property
    def forces_uncertainty(self) -> np.ndarray | None:
        """Standard deviation of each force component, (N, 3) eV/Å."""
        return self._std("forces_uncertainty", "")

    @property
    def stress_uncertainty(self) -> np.ndarray | None:
        """Standard deviation of each Voigt component, (B, 6) eV/Å³."""
        return self._std("stress_uncertainty", "")

    def value(self, quantity: str) -> np.ndarray | bool | None:
        """What QUANTITIES calls so, of all structures; None where `available` lacks it. …_uncertainty are standard deviations."""
        name = next((name for name in SPREADS if quantity.startswith(name)), None)
        if name is None:
            return getattr(self, "energy" if quantity == "free_energy" else quantity) if quantity in self.available else None
        return (self._spread if name.endswith("covariance") else self._std)(name, quantity[len(name) :])

    def _std(self, name: str, part: str) -> np.ndarray | None:
        spread = self._spread(name, part)
        if spread is None:
            return None
        with np.errstate(invalid="ignore"):  # a negative or NaN variance gives NaN
            return np.asarray(np.sqrt(spread if spread.ndim == 1 else np.diagonal(spread, axis1=-2, axis2=-1)))

    def _spread(self, name: str, part: str) -> np.ndarray | None:
        """The variance or covariance behind a key of SPREADS; part: "_epistemic", "_aleatoric" or, for the total, ""."""
        if name + part not in self.available:
            return None
        parts = [getattr(self, SPREADS[name] + each, None) for each in ([part] if part else ["_unsplit", "_epistemic", "_aleatoric"])]
        first, *others = (values for values in parts if values is not None)
        with np.errstate(invalid="ignore"):  # infinite entries of either sign
            return np.asarray(first + others[0]) if others else first


def available(prediction: Prediction) -> frozenset[str]:
    """The QUANTITIES that a prediction gives."""
    return prediction.available


def quantities(given: Collection[str], members: int) -> frozenset[str]:
    """The QUANTITIES that follow from these fields of a Prediction of so many members: what a model can give, said before it predicts.

    Epistemic parts and BALD need several members. A total needs its epistemic part, with one member its aleatoric part, or
    what is given unsplit.
    """
    found = {"energy", "free_energy", "forces", "calibrated"}
    alone = {"energies", "stress", "feature_distance", "distance_gap", "energies_members", "forces_members", "stress_members", "gap"}
    found |= alone.intersection(given)
    if members > 1:
        found |= {"bald_energy", "bald_forces"}.intersection(given)
    for name, start in SPREADS.items():
        epistemic, aleatoric = members > 1 and f"{start}_epistemic" in given, f"{start}_aleatoric" in given
        total = epistemic or (aleatoric and members == 1) or f"{start}_unsplit" in given
        found |= {name + part for part, given_so in (("", total), ("_epistemic", epistemic), ("_aleatoric", aleatoric)) if given_so}
    return frozenset(found)


def principal_std(covariance: np.ndarray) -> np.ndarray:
    """Standard deviation along the longest principal axis, (...,), of covariances (..., k, k); NaN where an entry is not finite.

    The square root of the largest eigenvalue: unlike the diagonal it does not depend on the orientation of the molecule.
    """
    covariance = np.asarray(covariance, dtype=np.float64)
    finite = np.isfinite(covariance).all(axis=(-2, -1))
    largest = np.linalg.eigvalsh(np.where(finite[..., None, None], covariance, 0.0))[..., -1]  # it may raise on NaN
    return np.where(finite, np.sqrt(np.maximum(largest, 0.0)), np.nan)
