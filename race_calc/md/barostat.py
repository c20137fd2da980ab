"""Is the pressure known well enough to move a cell? Uses ASE.

An error δP of the pressure moves a volume by δV/V = −δP/B. B is the bulk modulus of the potential itself for the structure as it stands,
−V dP/dV with fixed fractional coordinates, which is not below that of a relaxed one.
"""

import warnings
from typing import Any

import numpy as np
from ase import Atoms

from race_calc.uncertainty.decisions import OF_BAROSTAT, Criterion
from race_calc.uncertainty.predictor import calibration_of, raw_predictions

KNOWN = 0.03  # σ of the pressure over B at which a run ends; 0.002 to 0.005 for models/silicon (docs/monitor.md)
AFTER = 10  # checks in a row
STEP = 0.01  # of the volume


def has_barostat(dynamics: Any) -> bool:
    """Whether an ASE dynamics moves its cell by the pressure: the classes named …NPT…, or one that was given an external stress."""
    named = any("NPT" in kind.__name__ for kind in type(dynamics).__mro__)
    return named or getattr(dynamics, "externalstress", None) is not None


def pressure_criterion(atoms: Atoms, available: tuple[str, ...]) -> tuple[Criterion, ...]:
    """A halt where σ of the pressure is above KNOWN of B; none where the potential tells no such σ or B is not positive.

    Warns where that σ is not calibrated.
    """
    if OF_BAROSTAT not in available:
        return ()
    calibration = calibration_of(atoms.calc)
    if calibration is None or calibration.stress is None:
        warnings.warn(
            "the barostat follows a pressure whose σ was never compared with labels: calibrate with structures that have a stress "
            '(race-calc calibrate), or watch the volume (Criterion("volume_per_atom", threshold=<Å³>, action="halt"))',
            stacklevel=4,
        )
    modulus = bulk_modulus(atoms)
    return (Criterion(OF_BAROSTAT, KNOWN * modulus, "halt", AFTER),) if np.isfinite(modulus) and modulus > 0 else ()


def bulk_modulus(atoms: Atoms) -> float:
    """In eV/Å³; two more structures are predicted."""
    both = []
    for sign in (1, -1):
        scaled = atoms.copy()
        scaled.set_constraint()
        scaled.set_cell(atoms.cell.array * (1 + sign * STEP / 2) ** (1 / 3), scale_atoms=True)
        both.append(scaled)
    larger, smaller = (float(p.stress[0, :3].mean()) for one in both for p in raw_predictions(atoms.calc, [one]) if p.stress is not None)
    return (larger - smaller) / STEP
