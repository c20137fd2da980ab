"""What every member says about some structures, and how far a quantity of them can be trusted. NumPy only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from race_calc.uncertainty.prediction import Prediction
from race_calc.uncertainty.predictor import Predictor, calibration_of, raw_predictions

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True, eq=False)
class Estimate:
    """A quantity with its standard deviation `std`, in the unit of `value`, and what every member gives for it, (M, …), never calibrated.

    `std` is the standard deviation of the members times `widening`; `calibrated`: whether that is more than one.
    """

    value: np.ndarray
    std: np.ndarray
    members: np.ndarray
    calibrated: bool


@dataclass(frozen=True, eq=False)
class Told:
    """Of S structures with N atoms each: energies (S,) and (S, M) in eV, forces (S, N, 3) and (S, M, N, 3) in eV/Å."""

    energy: np.ndarray
    energies_members: np.ndarray
    forces: np.ndarray
    forces_members: np.ndarray


def members_of(potential: Predictor, structures: Sequence["Atoms"]) -> Told:
    """Raises ValueError for a potential of one member, or one that does not tell energies and forces of its members."""
    raw = list(raw_predictions(potential, structures))
    for prediction in raw:
        check_members(prediction)
        if prediction.forces_members is None:
            raise ValueError("the potential does not tell the forces of its members: do not leave them out (forces_epistemic=False)")
    n = len(structures[0])
    return Told(
        energy=np.concatenate([p.energy for p in raw]),
        energies_members=np.concatenate([_energies(p).T for p in raw]),
        forces=np.concatenate([p.forces.reshape(-1, n, 3) for p in raw]),
        forces_members=np.concatenate([_forces(p, n) for p in raw]),
    )


def check_members(prediction: Prediction) -> None:
    """Raises ValueError where there are no energies of several members."""
    if prediction.energies_members is None or prediction.n_members < 2:
        raise ValueError("the potential does not tell the energies of several members: error bars take a committee or an ensemble")


def estimate(potential: Predictor, values: np.ndarray) -> Estimate:
    """From a quantity (M + 1, …) of the potential itself, first, and of its members."""
    factor = widening(potential)
    return Estimate(values[0], values[1:].std(axis=0) * factor, values[1:], factor > 1.0)


def widening(potential: Predictor) -> float:
    """What a standard deviation of members is multiplied with: √ of the factor that a calibration has for the spread of their energies,
    one number for all structures. At least 1: where the noise of labels explains all errors of energies that factor tells nothing.
    """
    calibration = calibration_of(potential)
    factor = 1.0 if calibration is None or calibration.energy is None else calibration.energy.epistemic
    return float(np.sqrt(max(factor, 1.0)))


def _energies(prediction: Prediction) -> np.ndarray:
    assert prediction.energies_members is not None
    return prediction.energies_members


def _forces(prediction: Prediction, n: int) -> np.ndarray:
    """(B, M, n, 3)."""
    assert prediction.forces_members is not None
    forces = prediction.forces_members
    return forces.reshape(len(forces), -1, n, 3).swapaxes(0, 1)
