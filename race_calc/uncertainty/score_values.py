"""How the scores of `race_calc.uncertainty.scores` follow from a prediction: values (B,) and, of a maximum, which atom. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from race_calc.uncertainty.mandel import mandel_covariance
from race_calc.uncertainty.prediction import Prediction, principal_std

if TYPE_CHECKING:
    from ase import Atoms

Structures = Sequence["Atoms"] | None  # the B structures of a prediction, None where they are not known
Values = tuple[np.ndarray, np.ndarray | None]  # values (B,) and which atom (B,), counted from 0 within its structure
NO_GAP = 5e-3  # Å: a distance so near to what is known is known


def largest_atom(per_atom: np.ndarray, prediction: Prediction) -> Values:
    """The largest of (N,) numbers in each structure, and which atom has it."""
    values, atoms = np.empty(len(prediction.energy)), np.empty(len(prediction.energy), dtype=np.int64)
    order = np.argsort(prediction.batch, kind="stable")
    for b, members in enumerate(np.split(per_atom[order], np.cumsum(prediction.n_atoms)[:-1])):
        atoms[b] = np.argmax(members)  # the first NaN, if there is one
        values[b] = members[atoms[b]]
    return values, atoms


def mean_over_atoms(per_atom: np.ndarray, prediction: Prediction) -> np.ndarray:
    """The mean (B,) of (N,) numbers in each structure."""
    return np.asarray(np.bincount(prediction.batch, per_atom, len(prediction.energy)) / prediction.n_atoms)


def told(prediction: Prediction, quantity: str) -> np.ndarray:
    """An array that is there, as the `needs` of a score say."""
    return cast(np.ndarray, prediction.value(quantity))


def mean_square(prediction: Prediction, part: str) -> np.ndarray:
    """tr Σ / 3 of every atom, (N,)."""
    return np.asarray(np.trace(told(prediction, "forces_covariance" + part), axis1=1, axis2=2) / 3.0)


def energy(part: str) -> Callable[[Prediction, Structures], Values]:
    """Standard deviation of the total energy / atoms."""
    return lambda p, _: (told(p, "energy_uncertainty" + part) / p.n_atoms, None)


def forces_max(part: str) -> Callable[[Prediction, Structures], Values]:
    """Standard deviation along the longest principal axis of the force covariance, of the largest atom."""
    return lambda p, _: largest_atom(principal_std(told(p, "forces_covariance" + part)), p)


def forces_rms(part: str) -> Callable[[Prediction, Structures], Values]:
    """√(mean over the atoms of tr Σ / 3): the force RMSE that the model expects."""

    def values(p: Prediction, _: Structures) -> Values:
        with np.errstate(invalid="ignore"):
            return np.sqrt(mean_over_atoms(mean_square(p, part), p)), None

    return values


def feature_distance_max(p: Prediction, _: Structures) -> Values:
    return largest_atom(told(p, "feature_distance"), p)


def distance_gap_max(p: Prediction, _: Structures) -> Values:
    """Of the worst atom; NO_GAP for all that is below it, so that zeros make no tail of their own."""
    values, atoms = largest_atom(told(p, "distance_gap"), p)
    return np.maximum(values, NO_GAP), atoms


def stress_max(part: str) -> Callable[[Prediction, Structures], Values]:
    """Standard deviation along the longest principal axis of the covariance of the stress, in Mandel notation."""
    return lambda p, _: (principal_std(mandel_covariance(told(p, "stress_covariance" + part))), None)


def pressure(part: str) -> Callable[[Prediction, Structures], Values]:
    """Standard deviation of the pressure, −(σ_xx + σ_yy + σ_zz)/3."""

    def values(p: Prediction, _: Structures) -> Values:
        with np.errstate(invalid="ignore"):
            return np.sqrt(told(p, "stress_covariance" + part)[:, :3, :3].sum(axis=(1, 2))) / 3.0, None

    return values


def state_gap(part: str) -> Callable[[Prediction, Structures], Values]:
    return lambda p, _: (np.asarray(p.value("gap_uncertainty" + part)), None)


def state_gap_unresolved(prediction: Prediction, _: Structures) -> Values:
    """Above 1 the members do not tell which state is the lower one."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(prediction.value("gap_uncertainty") / told(prediction, "gap")), None


def volume_per_atom(prediction: Prediction, structures: Structures) -> Values:
    assert structures is not None  # as its needs say
    return np.array([atoms.cell.volume / len(atoms) for atoms in structures]), None
