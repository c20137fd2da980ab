"""Errors and uncertainties of forces by element and by size of the force. NumPy and SciPy only."""

from dataclasses import dataclass

import numpy as np

from race_calc.uncertainty.metrics import flat, mahalanobis, rmse, sharpness
from race_calc.uncertainty.residuals import Residuals

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0)  # of the atoms, between the bounds of the sizes


@dataclass(frozen=True)
class Group:
    """Some atoms of a data set: their number, RMSE of force components and root mean square of their σ (eV/Å, None where
    there is no σ), the share in the ellipsoid or interval of the level asked for (None likewise), and the mean of dᵀ Σ⁻¹ d / 3, which is
    1 where Σ is right (None likewise, infinite where a Σ is not positive definite)."""

    atoms: int
    rmse: float
    sigma: float | None
    covered: float | None
    squared: float | None


def by_element(residuals: Residuals, covered: np.ndarray | None) -> dict[int, Group]:
    """Atomic number → Group, for the elements there are; `covered` (N, ...) flags of atoms or components, or None."""
    squared = squared_distances(residuals)
    return {int(z): group(residuals, residuals.numbers == z, covered, squared) for z in np.unique(residuals.numbers)}


def everything(residuals: Residuals, covered: np.ndarray | None) -> Group:
    return group(residuals, np.ones(len(residuals.forces), dtype=bool), covered, squared_distances(residuals))


def size_bounds(sizes: list[np.ndarray]) -> np.ndarray:
    """Bounds between sizes of force (eV/Å) at fixed shares of the atoms of all data sets together; one more than the groups."""
    return np.asarray(np.quantile(np.concatenate(sizes), SHARES))


def by_size(residuals: Residuals, covered: np.ndarray | None, bounds: np.ndarray) -> dict[tuple[float, float], Group]:
    """(from, to) in eV/Å → Group of the atoms with a reference force of that length; without groups that have none."""
    place = np.clip(np.searchsorted(bounds, residuals.force_size, side="right") - 1, 0, len(bounds) - 2)
    squared = squared_distances(residuals)
    return {(float(bounds[k]), float(bounds[k + 1])): group(residuals, place == k, covered, squared) for k in np.unique(place)}


def group(residuals: Residuals, chosen: np.ndarray, covered: np.ndarray | None, squared: np.ndarray | None) -> Group:
    """Of the chosen atoms, flags (N,), of which at least one is set; `squared`: the `squared_distances` of all."""
    std = residuals.forces_std
    sigma, share = None if std is None else sharpness(std[chosen]), None if covered is None else float(covered[chosen].mean())
    mean = None if squared is None else float(squared[chosen].mean()) / 3
    return Group(int(chosen.sum()), rmse(residuals.forces[chosen]), sigma, share, mean)


def squared_distances(residuals: Residuals) -> np.ndarray | None:
    """dᵀ Σ⁻¹ d of the force on every atom, (N,); None without a Σ, and where members are too few for ellipsoids."""
    if residuals.forces_covariance is None:
        return None
    squared = mahalanobis(residuals.forces, residuals.forces_covariance)
    return None if flat(squared) else squared
