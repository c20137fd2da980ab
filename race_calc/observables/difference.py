"""The difference of two energies with its uncertainty: barriers, formation and reaction energies. NumPy only.

============ ============================ ====================================================================
symbol       variable                     formula
============ ============================ ====================================================================
Δ            value                        E(b) − t E(a)
Δ_m          members (M,)                 the same of each member
v                                         mean (Δ_m − mean Δ_m)²: what members have in common drops out
σ²(s), v(s)                               variance of the energy of s, calibrated where there is a calibration; of its members
σ²           std²                         v (σ²(b) + t² σ²(a)) / (v(b) + t² v(a))
============ ============================ ====================================================================

Of members that err independently at a and b this is σ²(b) + t² σ²(a); of structures that are alike it is far less, and zero of the
same one. `docs/calibration.md` has its coverage.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from race_calc.observables.members import check_members
from race_calc.uncertainty.prediction import Prediction
from race_calc.uncertainty.predictor import Predictor, calibration_of, raw_predictions

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True, eq=False)
class Difference:
    """E(b) − t E(a) in eV: `value`, its standard deviation `std`, and `members` (M,), never calibrated. `calibrated`: whether `std` is."""

    value: float
    std: float
    members: np.ndarray
    calibrated: bool

    def __str__(self) -> str:
        return f"{self.value:.4f} ± {self.std:.4f} eV"


def difference(potential: Predictor, a: "Atoms", b: "Atoms", times: float = 1.0) -> Difference:
    """How much higher the energy of b is than `times` that of a.

    `potential`: a RACECalculator, a committee, or whatever gives the energies of its members. `times`: of a vacancy, for example, (N − 1)/N
    with the perfect crystal of N atoms as a. Both must have the same atoms so far that the energies of isolated atoms drop out.

    >>> from ase import Atoms
    >>> from ase.calculators.lj import LennardJones
    >>> from race_calc import Committee
    >>> pair = Committee([LennardJones(epsilon=e, sigma=3.4, rc=10.0) for e in (0.010, 0.011)])
    >>> apart, close = (Atoms("Ar2", [[0, 0, 0], [0, 0, r]]) for r in (9.0, 3.8))
    >>> found = difference(pair, apart, close)
    >>> found.value < 0 < found.std
    True

    Raises ValueError for a potential of one member, or one that does not tell the energies of its members.
    """
    raw = [next(raw_predictions(potential, [atoms])) for atoms in (a, b)]
    for prediction in raw:
        check_members(prediction)
    calibration = calibration_of(potential)
    (e_a, e_b), weights = (np.asarray(p.energies_members)[:, 0] for p in raw), np.array([times**2, 1.0])
    members = e_b - times * e_a
    spreads = weights @ np.array([e_a.var(), e_b.var()])
    variances = weights @ np.array([_variance(p if calibration is None else calibration.apply(p)) for p in raw])
    with np.errstate(invalid="ignore", divide="ignore"):
        std = float(np.sqrt(members.var() * variances / spreads)) if spreads > 0 else 0.0
    value = float(raw[1].energy[0] - times * raw[0].energy[0])
    return Difference(value, std, members, calibration is not None)


def _variance(prediction: Prediction) -> float:
    """Of a calibrated prediction the total, of another one the spread of the members: what it predicts as noise is that of its labels."""
    total = prediction.energy_variance if prediction.calibrated else prediction.energy_epistemic
    assert total is not None  # there are several members
    return float(total[0])
