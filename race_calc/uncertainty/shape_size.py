"""Covariances of forces with the shape of one thing and the size of another, for data unlike those of the calibration.

=================== ======================= ===========================================================
quantity            variable                formula
=================== ======================= ===========================================================
e, a                                        tr Σ_e/3, tr Σ_a/3 of an atom: epistemic and aleatoric part
ē                   nearby                  mean of e around the atom, `race_calc.uncertainty.surroundings`
shape, of trace 3   shape                   Σ_a^b / (tr Σ_a^b/3); without Σ_a (1 − b) I + b Σ_e/e
size                scale, own              c a^(1−g) e^g ē^(p−g); without Σ_a c e^g ē^(p−g)
Σ                                           size · shape
=================== ======================= ===========================================================

One factor for Σ_e + Σ_a keeps a part that is the same for known and unknown structures, because the training learned it from known
ones. Here the size is homogeneous in the spread of the members, of a degree p that is fixed (DEGREE): known structures cannot tell
it. c, b and g are those of the largest likelihood. Σ is positive definite and turns with the structure.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from race_calc.uncertainty.metrics import mahalanobis

DEGREE = 1.0  # p
FLOOR = 1e-12  # (eV/Å)², under all of e and ē: forces that vanish by symmetry have no spread
BOUNDS = ((0.0, 1.5), (0.0, 1.0))  # of b and g
MOST_SPREAD = 0.99  # of b where the shape is that of the spread: fewer than four members span no space


@dataclass(frozen=True, eq=False)
class ForceSpread:
    """What the size and shape are made of, of N atoms: `epistemic` and, where there is one, `aleatoric` covariance (N, 3, 3) in (eV/Å)²,
    and `nearby` (N,), the mean of tr Σ_e/3 around each."""

    epistemic: np.ndarray
    aleatoric: np.ndarray | None
    nearby: np.ndarray


@dataclass(frozen=True)
class ShapeSize:
    """c, b and g of the table above, and the degree p."""

    scale: float
    shape: float
    own: float
    degree: float = DEGREE

    def total(self, spread: ForceSpread) -> np.ndarray:
        """Σ, (N, 3, 3) (eV/Å)². Values that are not finite pass through."""
        with np.errstate(all="ignore"):
            return np.asarray(self.scale * _size(spread, self.own, self.degree)[:, None, None] * _shape(spread, self.shape))

    def parts(self, spread: ForceSpread) -> tuple[np.ndarray, np.ndarray | None]:
        """Epistemic and aleatoric part of Σ: C Σ_e Cᵀ and C Σ_a Cᵀ with C = Σ^½ (Σ_e + Σ_a)^−½.

        Their sum is Σ, and their mutual information (BALD) is that of before, which no linear map changes.
        """
        total = self.total(spread)
        if spread.aleatoric is None:
            return total, None
        with np.errstate(all="ignore"):
            change = _power(total, 0.5) @ _power(spread.epistemic + spread.aleatoric, -0.5)
            turned = change.swapaxes(-1, -2)
            return change @ spread.epistemic @ turned, change @ spread.aleatoric @ turned


def fit_shape_size(difference: np.ndarray, spread: ForceSpread, degree: float = DEGREE) -> ShapeSize:
    """c, b and g with the largest likelihood of the differences (N, 3) in eV/Å.

    Raises ValueError where there is no spread, an aleatoric part is not positive definite, or the differences are all zero.
    """
    if not (np.trace(spread.epistemic, axis1=1, axis2=2) > 0).any():
        raise ValueError("the members do not differ: there is no size")
    if spread.aleatoric is not None and not (np.linalg.eigvalsh(spread.aleatoric) > 0).all():
        raise ValueError("an aleatoric part is not positive definite: it has no shape")
    limits = (BOUNDS[0] if spread.aleatoric is not None else (0.0, MOST_SPREAD), BOUNDS[1])

    def scale_of(x: np.ndarray) -> float:
        """The best c for b and g."""
        return float(mahalanobis(difference, ShapeSize(1.0, x[0], x[1], degree).total(spread)).mean()) / 3

    def nll(x: np.ndarray) -> float:
        """With the best c it is this, halved, and a constant."""
        covariance = ShapeSize(1.0, x[0], x[1], degree).total(spread)
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(3 * np.log(scale_of(x)) + np.linalg.slogdet(covariance)[1].mean())

    found: Any = minimize(nll, np.array([0.5, 0.5]), method="Nelder-Mead", bounds=limits, options={"xatol": 1e-3, "fatol": 1e-5})
    scale = scale_of(found.x)
    if not 0.0 < scale < np.inf:
        raise ValueError(f"the mean squared error is {scale} predicted variances, which is no scale")
    return ShapeSize(scale, float(found.x[0]), float(found.x[1]), degree)


def _size(spread: ForceSpread, own: float, degree: float) -> np.ndarray:
    """a^(1−g) e^g ē^(p−g), (N,)."""
    size: np.ndarray = (third(spread.epistemic) + FLOOR) ** own * (spread.nearby + FLOOR) ** (degree - own)
    return size if spread.aleatoric is None else size * third(spread.aleatoric) ** (1 - own)


def _shape(spread: ForceSpread, power: float) -> np.ndarray:
    """(N, 3, 3) of trace 3."""
    if spread.aleatoric is None:
        unit: np.ndarray = (spread.epistemic + FLOOR * np.eye(3)) / (third(spread.epistemic) + FLOOR)[:, None, None]
        return np.asarray((1 - power) * np.eye(3) + power * unit)
    raised = _power(spread.aleatoric, power)
    return np.asarray(raised / third(raised)[:, None, None])


def third(covariance: np.ndarray) -> np.ndarray:
    """tr Σ/3 of covariances (N, 3, 3), (N,): the variance of a component, averaged over directions."""
    return np.asarray(np.trace(covariance, axis1=1, axis2=2) / 3)


def _power(covariance: np.ndarray, power: float) -> np.ndarray:
    """Symmetric matrices to a power; NaN where an entry is not finite."""
    finite = np.isfinite(covariance).all(axis=(1, 2))
    values, axes = np.linalg.eigh(np.where(finite[:, None, None], covariance, np.eye(3)))
    found = (axes * np.maximum(values, np.finfo(float).tiny)[:, None, :] ** power) @ axes.swapaxes(-1, -2)
    return np.where(finite[:, None, None], found, np.nan)
