"""Variances of energies with the size of a spread, for data unlike those of the calibration.

σ² = N c (x/N)^p of a structure with N atoms, where x is the variance of the energy between the members, or the sum over the atoms of
tr Σ_e/3 of their forces: the errors of a structure that is strained all over come from many atoms. p is fixed, as for forces
(`race_calc.uncertainty.shape_size`); c is that of the largest likelihood.
"""

from dataclasses import dataclass

import numpy as np

EXPONENTS = {"forces": 1.5, "energies": 1.2}  # p
FLOOR = 1e-16  # eV² per atom or (eV/Å)², under all of x/N


@dataclass(frozen=True, eq=False)
class EnergySpread:
    """Of B structures: variance between members `energies` (B,) eV², sum of tr Σ_e/3 over the atoms `forces` (B,) (eV/Å)², and number of
    `atoms` (B,). None where it is not known."""

    energies: np.ndarray | None
    forces: np.ndarray | None
    atoms: np.ndarray

    def sources(self) -> tuple[str, ...]:
        """Those that say something of every structure."""
        return tuple(name for name in EXPONENTS if (x := getattr(self, name)) is not None and (x > 0).all())


@dataclass(frozen=True)
class EnergySize:
    """c, where x is from (a key of EXPONENTS), and p."""

    scale: float
    source: str
    exponent: float

    def variance(self, spread: EnergySpread) -> np.ndarray:
        """σ², (B,) eV². Values that are not finite pass through."""
        x = getattr(spread, self.source)
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(self.scale * spread.atoms * (x / spread.atoms + FLOOR) ** self.exponent)


def fit_energy_size(difference: np.ndarray, spread: EnergySpread, source: str, by_size: bool = False) -> EnergySize:
    """c with the largest likelihood of the differences (B,) in eV; `by_size`: with which the mean of σ² is that of their squares, for the
    energies of few members and nothing else (`race_calc.uncertainty.scaling.size_scale`). Raises ValueError where it is none."""
    one = EnergySize(1.0, source, EXPONENTS[source])
    variance = one.variance(spread)
    scale = float(np.sum(difference**2) / np.sum(variance) if by_size else np.mean(difference**2 / variance))
    if not 0.0 < scale < np.inf:
        raise ValueError(f"the mean squared error is {scale} predicted variances, which is no scale")
    return EnergySize(scale, source, one.exponent)
