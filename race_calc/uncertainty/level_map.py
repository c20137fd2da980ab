"""Correct the levels of predicted uncertainties, after their scale (`race_calc.uncertainty.scaling`). NumPy and SciPy only.

=================== ======================= ===========================================================
quantity            variable                formula
=================== ======================= ===========================================================
u                   pit                     level at which a reference was found: Φ(d/σ) or F(d²_M)
R(p)                LevelMap.observed       share of references found at or below the nominal level p
R⁻¹(p)              LevelMap.nominal        nominal level below which the share p was found
z_low, z_high       central_interval        Φ⁻¹(R⁻¹((1 ∓ p)/2))
r                   ellipsoid_radius        r² = F⁻¹(R⁻¹(p)), F of χ²_k
=================== ======================= ===========================================================

No level tells what lies far out (d > 8 σ, d² > 70), so no map of levels does: the scale comes first, and σ and Σ of a calibrated
model are the scaled ones. The level map (Kuleshov, Fenner & Ermon 2018) leaves σ alone and corrects the shape: which multiple
of σ to take for an interval that holds a share p.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincinv, ndtri

from race_calc.uncertainty.metrics import check_probability

INTERVALS = 500  # of a level map at most: steps of 0.2 %


@dataclass(frozen=True)
class LevelMap:
    """Monotone map between nominal and observed levels, 0 → 0 and 1 → 1, linear between its knots.

    ===== ================ ==== ======================================================================
    field shape            unit meaning
    ===== ================ ==== ======================================================================
    knots (m + 1,), m ≥ 1  1    nominal levels whose observed levels are 0, 1/m, 2/m … 1; not decreasing
    ===== ================ ==== ======================================================================
    """

    knots: tuple[float, ...]

    def observed(self, nominal: npt.ArrayLike) -> np.ndarray:
        """R(p): which share of references is found at or below these nominal levels (any shape, 0 to 1).

        Applied to `gaussian_pit` or `chi_square_pit` of new data it gives their recalibrated level.
        NaN stays NaN. Raises ValueError for levels outside 0 … 1.
        """
        levels = _levels(nominal)
        return np.where(levels == 0.0, 0.0, np.interp(levels, self.knots, self._shares))

    def nominal(self, observed: npt.ArrayLike) -> np.ndarray:
        """R⁻¹(p): the nominal level to ask the model for, to get these shares (any shape). Raises ValueError outside 0 … 1."""
        return np.asarray(np.interp(_levels(observed), self._shares, self.knots))

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "LevelMap":
        """From its field. Raises ValueError where that is no monotone map of 0 … 1."""
        try:
            knots = tuple(float(value) for value in state["knots"])
        except (KeyError, TypeError) as error:
            raise ValueError("a level map is {'knots': [0.0, …, 1.0]}: calibrate the model again") from error
        if len(knots) < 2 or knots[0] != 0.0 or knots[-1] != 1.0 or not all(a <= b for a, b in zip(knots, knots[1:])):
            raise ValueError("the knots of a level map must rise from 0 to 1: calibrate the model again")
        return cls(knots)

    @property
    def _shares(self) -> np.ndarray:
        return np.linspace(0.0, 1.0, len(self.knots))


FLAT = LevelMap((0.0, 1.0))  # changes nothing


def fit_level_map(pit: npt.ArrayLike) -> LevelMap:
    """The map that makes `pit` (any shape; `gaussian_pit` of one number or `chi_square_pit` of vectors) uniform.

    The isotonic regression of observed on nominal levels: the i-th smallest of n is given the level i/(n + 1), which is monotone already.
    i/(n + 1) is what such a value covers on average, so the map agrees with `conformal_quantile`. More than INTERVALS − 1 values are
    thinned to evenly spaced observed levels. Raises ValueError for no values, and for values that are not levels.
    """
    levels = _levels(pit)
    n, broken = levels.size, np.isnan(levels).sum()
    if n == 0 or broken:
        raise ValueError(f"{broken} of {n} levels are NaN: give at least one, and leave out structures with broken predictions")
    ordered = np.concatenate([[0.0], np.sort(levels, axis=None), [1.0]])
    shares = np.linspace(0.0, 1.0, min(n + 1, INTERVALS) + 1)
    knots = np.interp(shares, np.linspace(0.0, 1.0, len(ordered)), ordered)
    return LevelMap(tuple(np.maximum.accumulate(knots).tolist()))  # rounding may lower one of several equal knots


IDENTITY = LevelMap((0.0, 1.0))


def central_interval(level: float, level_map: LevelMap = IDENTITY) -> tuple[float, float]:
    """z_low, z_high: a share `level` of references lies in prediction + z_low σ … prediction + z_high σ.

    For a map fitted to `gaussian_pit` of reference − prediction: with the other sign, the interval is mirrored.
    Beyond the most extreme level of the calibration data the map is a straight line to 0 and 1: with few data, far intervals
    are a guess, and `conformal_quantile` says so. Raises ValueError for a level outside 0 < level < 1.
    """
    check_probability(level, "level")
    low, high = ndtri(level_map.nominal([0.5 - 0.5 * level, 0.5 + 0.5 * level]))
    return float(low), float(high)


def ellipsoid_radius(level: float, level_map: LevelMap = IDENTITY, k: int = 3) -> float:
    """r: a share `level` of references lies where dᵀ Σ⁻¹ d ≤ r², for a map fitted to `chi_square_pit` with the same k.

    Beyond the data a guess, as `central_interval`. Raises ValueError for a level outside 0 < level < 1.
    """
    check_probability(level, "level")
    return float(np.sqrt(2.0 * gammaincinv(0.5 * k, level_map.nominal(level))))


def _levels(values: npt.ArrayLike) -> np.ndarray:
    levels = np.asarray(values, dtype=np.float64)
    if ((levels < 0.0) | (levels > 1.0)).any():
        raise ValueError("levels must lie between 0 and 1: give probabilities, such as gaussian_pit or chi_square_pit")
    return levels
