"""From the outputs of M members to one Prediction. NumPy only."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from race_calc.uncertainty.bald import bald_energy, bald_forces
from race_calc.uncertainty.prediction import VOIGT, Extra, Prediction

BY_MEMBER = ("energy", "atom_energy", "forces", "stress", "energy_var", "force_cov", "stress_cov")  # arrays with the member axis


@dataclass(frozen=True, eq=False)
class MemberOutputs:
    """What M members say of B structures with N atoms, in float64.

    ================== ==================== ========= ======================================
    field              shape                unit      symbol
    ================== ==================== ========= ======================================
    energy             (M, B)               eV        μ_m
    atom_energy        (M, N) or None       eV
    forces             (M, N, 3)            eV/Å      F_m; one row: the mean, the members' own are not known
    stress             (M, B, 3, 3) or None eV/Å³     symmetric, ASE sign; one row as above
    energy_var         (M, B) or None       eV²       σ²_m
    force_cov          (M, N, 3, 3) or None (eV/Å)²   Σ_m
    stress_cov         (M, B, 6, 6) or None (eV/Å³)²  of the stress, Voigt
    batch              (N,)                 -         structure of each atom, 0 … B−1
    energy_epistemic   (B,) or None         eV²       in closed form, in place of the members' spread
    forces_closed_form bool                           the members' forces have the covariance of the posterior, not of a sample
    paired             bool                           members are draws in antithetic pairs around their mean
    extra              name → (M, …)                  other outputs
    ================== ==================== ========= ======================================

    Raises ValueError when the shapes do not fit together.
    """

    energy: np.ndarray
    forces: np.ndarray
    batch: np.ndarray
    atom_energy: np.ndarray | None = None
    stress: np.ndarray | None = None
    energy_var: np.ndarray | None = None
    force_cov: np.ndarray | None = None
    stress_cov: np.ndarray | None = None
    energy_epistemic: np.ndarray | None = None
    forces_closed_form: bool = False
    paired: bool = False
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in BY_MEMBER:
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else np.asarray(value, dtype=np.float64))
        object.__setattr__(self, "batch", np.asarray(self.batch))
        _check_shapes(self)

    def rows(self, part: slice) -> "MemberOutputs":
        """What some of the members say."""
        parts: dict[str, Any] = {name: None if (values := getattr(self, name)) is None else values[part] for name in BY_MEMBER}
        return replace(self, **parts, extra={name: values[part] for name, values in self.extra.items()})


def aggregate(members: MemberOutputs) -> Prediction:
    """Law of total variance over the members (Willow et al., Eq. 27), in float64.

    E = mean μ_m; epistemic = mean (μ_m − E)², the *population* variance (divided by M, ddof 0, as in the paper); aleatoric = mean σ²_m.
    Forces: epistemic = mean (F_m − F)(F_m − F)ᵀ and aleatoric = mean Σ_m per atom; stress likewise over its six Voigt components. With M
    = 1 the epistemic parts are zero and BALD is None; so are the epistemic parts and BALD of forces and stress, None, where the members'
    own are not known.

    Values that are not finite pass through; they never raise.
    """
    energy, forces = members.energy, members.forces
    n_members = len(energy)
    with np.errstate(invalid="ignore", over="ignore"):
        mean_energy, variance = _mean_and_variance(energy)  # (B,)
        energy_epistemic = variance if members.energy_epistemic is None else members.energy_epistemic
        mean_forces, covariance = _mean_and_covariance(forces)  # (N, 3), (N, 3, 3)
        stress = mean_stress = stress_epistemic = None
        if members.stress is not None:
            stress = _voigt(members.stress)
            mean_stress, stress_epistemic = _mean_and_covariance(stress)  # (B, 6), (B, 6, 6)
        closed = {"energy": members.energy_epistemic is not None, "forces": members.forces_closed_form}
        spread, several = len(forces) == n_members, n_members > 1
        return Prediction(
            energy=mean_energy,
            energies=_mean(members.atom_energy),
            forces=mean_forces,
            stress=mean_stress,
            energy_epistemic=energy_epistemic,
            energy_aleatoric=_mean(members.energy_var),
            forces_covariance_epistemic=covariance if spread else None,
            forces_covariance_aleatoric=_mean(members.force_cov),
            stress_covariance_epistemic=stress_epistemic if spread else None,
            stress_covariance_aleatoric=_mean(members.stress_cov),
            bald_energy=bald_energy(energy_epistemic, members.energy_var) if several else None,
            bald_forces=bald_forces(covariance, members.force_cov) if several and spread else None,
            batch=members.batch,
            n_members=n_members,
            paired=members.paired,
            closed_form=frozenset(name for name, so in closed.items() if so),
            energies_members=energy,
            forces_members=forces if spread else None,
            stress_members=stress if spread else None,
            extra={name: Extra(*_mean_and_variance(values)) for name, values in members.extra.items()},
        )


def aggregate_around(members: MemberOutputs, center: MemberOutputs) -> Prediction:
    """The means (energy, energies, forces, stress, extra) are those of `center`, one set such as the MAP; all else is `aggregate`.

    Variances and covariances are about the members' own mean: where the members' mean is off, its distance from the center is not in them.
    """
    spread, one = aggregate(members), aggregate(center)
    extra = {name: Extra(one.extra[name].mean, values.epistemic) for name, values in spread.extra.items()}
    return replace(spread, energy=one.energy, energies=one.energies, forces=one.forces, stress=one.stress, extra=extra)


def _mean_and_variance(members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M, …) -> mean and population variance (…)."""
    mean = members.mean(axis=0)
    return mean, ((members - mean) ** 2).mean(axis=0)


def _mean_and_covariance(members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M, X, d) -> mean (X, d) and population covariance (X, d, d)."""
    mean = members.mean(axis=0)
    return mean, np.einsum("mxi,mxj->xij", members - mean, members - mean) / len(members)


def _voigt(stress: np.ndarray) -> np.ndarray:
    """(..., 3, 3) -> (..., 6); the two off-diagonal copies are averaged."""
    row, column = VOIGT
    return np.asarray(0.5 * (stress[..., row, column] + stress[..., column, row]))


def _mean(members: np.ndarray | None) -> np.ndarray | None:
    return None if members is None else members.mean(axis=0)


def _check_shapes(outputs: MemberOutputs) -> None:
    energy, batch = outputs.energy, outputs.batch
    if energy.ndim != 2 or len(energy) == 0:
        raise ValueError(f"energy must have shape (M, B) with M ≥ 1, got {energy.shape}")
    if batch.ndim != 1 or batch.dtype.kind not in "iu":
        raise ValueError(f"batch must be integers of shape (N,), got {batch.dtype} {batch.shape}")
    (members, structures), atoms = energy.shape, len(batch)
    rows = 1 if len(outputs.forces) == 1 else members
    expected = {
        "atom_energy": (members, atoms),
        "forces": (rows, atoms, 3),
        "stress": (rows, structures, 3, 3),
        "energy_var": (members, structures),
        "force_cov": (members, atoms, 3, 3),
        "stress_cov": (members, structures, 6, 6),
    }
    for name, shape in expected.items():
        values = getattr(outputs, name)
        if values is not None and values.shape != shape:
            sizes = f"M = {members} members, B = {structures} structures, N = {atoms} atoms"
            raise ValueError(f"{name} must have shape {shape}, got {values.shape} ({sizes})")
