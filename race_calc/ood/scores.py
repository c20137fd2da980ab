"""One number per structure that says how little the model knows. NumPy only.

=========================================== ====== ======================================
criterion                                   unit   value
=========================================== ====== ======================================
bald_energy                                 nat    BALD of the energy
bald_forces_max, bald_forces_mean           nat    BALD of the forces over the atoms
energy_uncertainty_per_atom                 eV     std of the total energy / atoms
forces_uncertainty_max                      eV/Å   std along the longest principal axis of
                                                   the force covariance, largest atom
forces_uncertainty_rms                      eV/Å   √(mean over the atoms of tr Σ / 3): the
                                                   force RMSE that the model expects
energy_uncertainty_per_atom_epistemic       eV     the same, epistemic part only
forces_uncertainty_max_epistemic            eV/Å   the same, epistemic part only
forces_uncertainty_rms_epistemic            eV/Å   the same, epistemic part only
=========================================== ====== ======================================
"""

import numpy as np

from race_calc.prediction import Prediction, principal_std

CRITERIA = (
    "bald_energy",
    "bald_forces_max",
    "bald_forces_mean",
    "energy_uncertainty_per_atom",
    "energy_uncertainty_per_atom_epistemic",
    "forces_uncertainty_max",
    "forces_uncertainty_max_epistemic",
    "forces_uncertainty_rms",
    "forces_uncertainty_rms_epistemic",
)


def available_criteria(prediction: Prediction) -> tuple[str, ...]:
    """The names in CRITERIA this prediction can give.

    BALD needs several members and an aleatoric part, ``_epistemic`` needs several
    members, a total needs at least one of the two parts.
    """
    given = {
        "bald_energy": prediction.has_epistemic and prediction.bald_energy is not None,
        "bald_forces_max": prediction.has_epistemic_forces and prediction.bald_forces is not None,
        "bald_forces_mean": prediction.has_epistemic_forces and prediction.bald_forces is not None,
        "energy_uncertainty_per_atom": prediction.energy_variance is not None,
        "energy_uncertainty_per_atom_epistemic": prediction.has_epistemic,
        "forces_uncertainty_max": prediction.forces_covariance is not None,
        "forces_uncertainty_max_epistemic": prediction.has_epistemic_forces,
        "forces_uncertainty_rms": prediction.forces_covariance is not None,
        "forces_uncertainty_rms_epistemic": prediction.has_epistemic_forces,
    }
    return tuple(name for name in CRITERIA if given[name])


def score(prediction: Prediction, criterion: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Values (B,) of a criterion and, for a maximum over atoms, which atom (B,).

    The atom index counts from 0 within its structure. NaN wins over every number,
    so that a broken atom is never hidden.

    Raises ValueError for an unknown criterion, or one this posterior cannot give.
    """
    check_available((criterion,), available_criteria(prediction))
    if criterion == "bald_energy":
        return prediction.bald_energy, None
    if criterion == "bald_forces_max":
        return _largest_atom(prediction.bald_forces, prediction)
    if criterion == "bald_forces_mean":
        return _mean_over_atoms(prediction.bald_forces, prediction), None
    if criterion == "energy_uncertainty_per_atom":
        return prediction.energy_uncertainty / prediction.n_atoms, None
    if criterion == "energy_uncertainty_per_atom_epistemic":
        with np.errstate(invalid="ignore"):
            return np.sqrt(prediction.energy_epistemic) / prediction.n_atoms, None
    covariance = prediction.forces_covariance_epistemic if criterion.endswith("_epistemic") else prediction.forces_covariance
    if criterion.startswith("forces_uncertainty_max"):
        return _largest_atom(principal_std(covariance), prediction)
    with np.errstate(invalid="ignore"):
        return np.sqrt(_mean_over_atoms(np.trace(covariance, axis1=1, axis2=2) / 3.0, prediction)), None


def all_scores(prediction: Prediction) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """`score` of every available criterion, by name."""
    return {name: score(prediction, name) for name in available_criteria(prediction)}


def check_available(wanted, available) -> None:
    """Raise ValueError when a wanted criterion is unknown or not among the available ones."""
    for name in wanted:
        if name not in CRITERIA:
            raise ValueError(f"unknown criterion {name!r}; known: {', '.join(CRITERIA)}")
        if name not in available:
            raise ValueError(
                f"this posterior cannot give the criterion {name!r} (BALD needs several members "
                "and a predicted variance, epistemic parts need several members, forces those of every member: "
                "not with forces_epistemic=False); "
                f"available: {', '.join(available) or 'none'}"
            )


def _mean_over_atoms(per_atom: np.ndarray, prediction: Prediction) -> np.ndarray:
    return np.bincount(prediction.batch, per_atom, len(prediction.energy)) / prediction.n_atoms


def _largest_atom(per_atom: np.ndarray, prediction: Prediction) -> tuple[np.ndarray, np.ndarray]:
    values = np.empty(len(prediction.energy))
    atoms = np.empty(len(prediction.energy), dtype=np.int64)
    order = np.argsort(prediction.batch, kind="stable")
    ends = np.cumsum(prediction.n_atoms)
    for b, members in enumerate(np.split(per_atom[order], ends[:-1])):
        atoms[b] = np.argmax(members)  # the first NaN, if there is one
        values[b] = members[atoms[b]]
    return values, atoms
