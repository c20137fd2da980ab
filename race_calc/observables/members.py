"""What every member says about some structures, and how large a calibration finds their spread. NumPy only."""

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

    `std` is the standard deviation of the members, widened as the calibration widens that of their energies where it is `calibrated`.
    """

    value: np.ndarray
    std: np.ndarray
    members: np.ndarray
    calibrated: bool


@dataclass(frozen=True, eq=False)
class Told:
    """Of S structures with N atoms each: energies (S,) and (S, M) in eV, forces (S, N, 3) and (S, M, N, 3) in eV/Å.

    `variances`, `spreads` (S,): epistemic variance of the energy, calibrated where there is a calibration, and before, eV².
    """

    energy: np.ndarray
    energies_members: np.ndarray
    forces: np.ndarray
    forces_members: np.ndarray
    variances: np.ndarray
    spreads: np.ndarray
    calibrated: bool

    def widening(self) -> float:
        """What a standard deviation of members is multiplied with: √ of the ratio of the means."""
        spread = self.spreads.mean()
        return float(np.sqrt(self.variances.mean() / spread)) if spread > 0 else 1.0


def members_of(potential: Predictor, structures: Sequence["Atoms"]) -> Told:
    """Raises ValueError for a potential of one member, or one that does not tell energies and forces of its members."""
    raw = list(raw_predictions(potential, structures))
    for prediction in raw:
        check_members(prediction)
        if prediction.forces_members is None:
            raise ValueError("the potential does not tell the forces of its members: do not leave them out (forces_epistemic=False)")
    told = [np.asarray(calibrated(potential, prediction).energy_epistemic) for prediction in raw]
    n = len(structures[0])
    return Told(
        energy=np.concatenate([p.energy for p in raw]),
        energies_members=np.concatenate([_energies(p).T for p in raw]),
        forces=np.concatenate([p.forces.reshape(-1, n, 3) for p in raw]),
        forces_members=np.concatenate([_forces(p, n) for p in raw]),
        variances=np.concatenate(told),
        spreads=np.concatenate([np.asarray(p.energy_epistemic) for p in raw]),
        calibrated=calibration_of(potential) is not None,
    )


def check_members(prediction: Prediction) -> None:
    """Raises ValueError where there are no energies of several members."""
    if prediction.energies_members is None or prediction.n_members < 2:
        raise ValueError("the potential does not tell the energies of several members: error bars take a committee or an ensemble")


def calibrated(potential: Predictor, raw: Prediction) -> Prediction:
    """With the calibration of the potential, where it has one."""
    calibration = calibration_of(potential)
    return raw if calibration is None else calibration.apply(raw)


def _energies(prediction: Prediction) -> np.ndarray:
    assert prediction.energies_members is not None
    return prediction.energies_members


def _forces(prediction: Prediction, n: int) -> np.ndarray:
    """(B, M, n, 3)."""
    assert prediction.forces_members is not None
    forces = prediction.forces_members
    return forces.reshape(len(forces), -1, n, 3).swapaxes(0, 1)
