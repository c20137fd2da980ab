"""Variances of energies with the size of two spreads, for data unlike those of the calibration.

σ² is a weighted mean of what two sources say, of which the second may be missing:

- `energies`: c (V/N + floor)^q N, with V the variance of the energy between the members and N the number of atoms;
- `forces`: c Σ_i (e_i + floor) (ē_i + floor)^(q−1) over the atoms, with e and ē of `race_calc.uncertainty.shape_size`: a strained structure
  has errors wherever it is strained. Parts that are far from one another add up.

Neither alone will do: ten members tell their own variance badly, and forces vanish in a perfect crystal whatever its energy is. The
first is not additive: energies of equal copies err alike, those of different parts do not, and V alone cannot tell. q is fixed, as
for forces; each c is that of the largest likelihood, and so is one for both.

V is that of a few members, and scatters: V^1.4 by 0.7 of its mean for ten, 1.0 for five and 2.0 for two. So it has the weight ½ for ten
members or more, and less for fewer (`share_of_energies`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from race_calc.uncertainty.shape_size import floor_of

EXPONENTS = {"energies": 1.4, "forces": 1.5}  # q: `benchmarks/shifts.py`, `docs/shift.md`
ENOUGH = 10  # members, from which on both sources count alike


@dataclass(frozen=True, eq=False)
class EnergySpread:
    """Of B structures with N atoms in all: variance between members (B,) eV²; or None e and ē of the atoms (N,) (eV/Å)²; structure of
    each atom (N,)."""

    energies: np.ndarray
    forces: tuple[np.ndarray, np.ndarray] | None
    frame: np.ndarray


@dataclass(frozen=True)
class Source:
    """A key of EXPONENTS with its c, q and floor, and its weight beside the other source."""

    name: str
    scale: float
    exponent: float
    floor: float
    weight: float = 0.5

    def variance(self, spread: EnergySpread) -> np.ndarray:
        """(B,) eV². Values that are not finite pass through."""
        n = np.bincount(spread.frame)
        with np.errstate(all="ignore"):
            if self.name == "energies":
                return np.asarray(self.scale * n * (spread.energies / n + self.floor) ** self.exponent)
            assert spread.forces is not None
            own, nearby = (values + self.floor for values in spread.forces)
            return self.scale * np.bincount(spread.frame, own * nearby ** (self.exponent - 1))


@dataclass(frozen=True)
class EnergySize:
    """Its sources; σ² is the weighted mean over those that a prediction has."""

    sources: tuple[Source, ...]

    def variance(self, spread: EnergySpread) -> np.ndarray:
        """σ², (B,) eV²."""
        return np.asarray(np.mean([source.variance(spread) for source in self.of_equal_weight(spread.forces is not None)], axis=0))

    def of_equal_weight(self, has_forces: bool) -> tuple[Source, ...]:
        """The sources that a prediction has, with or without a spread of forces, with such scales that σ² is their plain mean."""
        known = [source for source in self.sources if source.name == "energies" or has_forces]
        average = sum(source.weight for source in known) / len(known)
        return tuple(_scaled(source, source.weight / average) for source in known)


def share_of_energies(members: int | None) -> float:
    """Weight of the variance between so many independent members, at most ½; that of forces is the rest. None: no sample of members."""
    if members is None:
        return 0.5
    k = max(min(members, ENOUGH) - 1, 1)
    return k**2 / (k**2 + (ENOUGH - 1) ** 2)


def fit_energy_size(
    difference: np.ndarray,
    spread: EnergySpread,
    members: int | None = None,
    by_size: bool = False,
    exponents: Mapping[str, float] = EXPONENTS,
) -> EnergySize:
    """Of differences (B,) in eV. `members`: independent ones whose spread this is, None where it is no sample. `by_size`: each c makes the
    mean of σ² that of their squares, where all of a variance is the spread of members (`race_calc.uncertainty.scaling.size_scale`). Raises
    ValueError where members do not differ, or the differences are all zero.
    """
    typical = {"energies": spread.energies / np.bincount(spread.frame)} | ({} if spread.forces is None else {"forces": spread.forces[0]})
    plain, share = [], share_of_energies(members)
    for name, values in typical.items():
        if not (values > 0).any():
            raise ValueError(f"the members do not differ in their {name}: there is no size")
        one = Source(name, 1.0, exponents[name], floor_of(values), share if name == "energies" else 1 - share)
        plain.append(_scaled(one, _scale(difference, one.variance(spread), by_size)))
    both = _scale(difference, EnergySize(tuple(plain)).variance(spread), by_size)
    return EnergySize(tuple(_scaled(source, both) for source in plain))


def _scaled(source: Source, factor: float) -> Source:
    return replace(source, scale=factor * source.scale)


def _scale(difference: np.ndarray, variance: np.ndarray, by_size: bool) -> float:
    scale = float(np.sum(difference**2) / np.sum(variance) if by_size else np.mean(difference**2 / variance))
    if not 0.0 < scale < np.inf:
        raise ValueError(f"the mean squared error is {scale} predicted variances, which is no scale")
    return scale
