"""Is the pressure known well enough to move a cell? Uses ASE.

An error δP of the pressure moves a volume by δV/V = −δP/B. B is the bulk modulus of the potential itself for the structure as it stands,
−V dP/dV with fixed fractional coordinates, which is not below that of a relaxed one; atoms that move add 2 E_kin/3V, all there is in a gas.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms

from race_calc.uncertainty.decisions import PRESSURE, Criterion
from race_calc.uncertainty.predictor import calibration_of, raw_predictions

KNOWN = 0.03  # σ of the pressure over B at which a run ends; what it did: docs/crystals.md
AFTER = 10  # checks in a row
STEP = 0.01  # of the volume
MOVED = 0.05  # of the volume: B is computed again


def has_barostat(dynamics: Any) -> bool:
    """Whether an ASE dynamics moves its cell by the pressure: the classes named …NPT…, or one that was given an external stress."""
    named = any("NPT" in kind.__name__ for kind in type(dynamics).__mro__)
    if named and hasattr(dynamics, "pfactor_given"):  # MelchionnaNPT: at constant volume without
        return dynamics.pfactor_given is not None
    return named or getattr(dynamics, "externalstress", None) is not None


def pressure_criterion(atoms: Atoms, available: tuple[str, ...]) -> tuple[Criterion, ...]:
    """A halt where the epistemic σ of the pressure is above KNOWN of B, which is that of no volume where B is not positive;
    none where the potential tells no such σ. Noise of single cells, the aleatoric part, averages out in a run.

    Warns where that σ is not calibrated.
    """
    if PRESSURE not in available:
        return ()
    calibration = calibration_of(atoms.calc)
    if calibration is None or calibration.stress is None:
        warnings.warn(
            "the barostat follows a pressure whose σ was never compared with labels: calibrate with structures that have a stress "
            '(race-calc calibrate), or watch the volume (Criterion("volume_per_atom", threshold=<Å³>, action="halt"))',
            stacklevel=4,
        )
    return (Criterion(PRESSURE, _limit(atoms), "halt", AFTER),)


@dataclass(frozen=True)
class Limit:
    """A criterion of `pressure_criterion`, and the volume in Å³ at which its B was computed."""

    criterion: Criterion
    volume: float


def limit_in(criteria: Sequence[Criterion], atoms: Atoms) -> Limit | None:
    """The one among criteria that were just made for this structure."""
    own = [c for c in criteria if c.name == PRESSURE and c.action == "halt" and c.consecutive == AFTER]
    return Limit(own[0], float(atoms.cell.volume)) if own else None


def renewed(limit: Limit, criteria: tuple[Criterion, ...], atoms: Atoms) -> tuple[Limit, tuple[Criterion, ...]]:
    """Both with the B of now where the volume has changed by more than MOVED; criteria that were accepted or set since stay."""
    if limit.criterion not in criteria or abs(atoms.cell.volume / limit.volume - 1) <= MOVED:
        return limit, criteria
    new = Limit(replace(limit.criterion, threshold=_limit(atoms)), float(atoms.cell.volume))
    return new, tuple(new.criterion if c is limit.criterion else c for c in criteria)


def _limit(atoms: Atoms) -> float:
    found = KNOWN * max(bulk_modulus(atoms), 0.0)
    return found if np.isfinite(found) else 0.0


def bulk_modulus(atoms: Atoms) -> float:
    """In eV/Å³, with that of the motion of the atoms; two more structures are predicted."""
    both = []
    for sign in (1, -1):
        scaled = atoms.copy()
        scaled.set_constraint()
        scaled.set_cell(atoms.cell.array * (1 + sign * STEP / 2) ** (1 / 3), scale_atoms=True)
        both.append(scaled)
    told = [p.stress for p in raw_predictions(atoms.calc, both) if p.stress is not None]
    larger, smaller = np.concatenate(told)[:, :3].mean(axis=1)
    motion = 2.0 * atoms.get_kinetic_energy() / (3.0 * atoms.cell.volume)
    return float((larger - smaller) / STEP + motion)
