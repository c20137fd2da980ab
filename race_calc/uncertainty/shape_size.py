"""Covariances of forces with the shape of one thing and the size of another, for data unlike those of the calibration.

=================== ======================= ===========================================================
quantity            variable                formula
=================== ======================= ===========================================================
e, a                                        tr Σ_e/3, tr Σ_a/3 of an atom: epistemic and aleatoric part
ē                   nearby                  mean of e around the atom, `race_calc.uncertainty.surroundings`
shape, of trace 3   shape                   Σ_a^b / (tr Σ_a^b/3); without Σ_a (1 − b) I + b Σ_e/e
size                scale, own              c a^(1−g) e^g ē^(p−g); without Σ_a c e^g ē^(p−g)
k_z                 elements                (Σ dᵀΣ⁻¹d/3 + n₀)/(n_z + n₀) over the n_z known atoms of element z, Σ without it
Σ                                           k_z · size · shape
=================== ======================= ===========================================================

One factor for Σ_e + Σ_a keeps a part that is the same for known and unknown structures, because the training learned it from known
ones. Here the size is homogeneous in the spread of the members, of a degree p that is fixed (DEGREE): known structures cannot tell
it. c, b and g are those of the largest likelihood; k_z is held near 1 as by n₀ atoms, and is 1 for other elements. Σ is positive
definite and turns with the structure. `floor` is added to e and ē: forces that vanish by symmetry have no spread, but labels have noise.
Stresses of structures, vectors of k = 6 in Mandel notation in place of 3, are calibrated alike, with ē = e.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize

DEGREE = 1.1  # p: `benchmarks/shifts.py`, `docs/shift.md`
FLOOR, ROUNDING = 0.01, 1e-6  # of the median of e over known atoms that have a spread: more than ROUNDING of the largest
MOST_SHAPE, MOST_SPREAD = 1.5, 0.99  # of b; where the shape is that of the spread: fewer than four members span no space
HELD = 100  # n₀: on ethanol and acetamide (`benchmarks/shifts.py`) as good as one size for all, where 0 and 30 are worse
WORST = 1e12  # in place of a likelihood that is not finite


@dataclass(frozen=True, eq=False)
class VectorSpread:
    """What the size and shape are made of, of N atoms: `epistemic` and, where there is one, `aleatoric` covariance (N, 3, 3) in (eV/Å)²,
    and `nearby` (N,), the mean of tr Σ_e/3 around each. An aleatoric part that is zero everywhere is none. `numbers` (N,): their elements,
    where they are known."""

    epistemic: np.ndarray
    aleatoric: np.ndarray | None
    nearby: np.ndarray
    numbers: np.ndarray | None = None

    @property
    def shapely(self) -> np.ndarray | None:
        """The aleatoric part, if it has a shape."""
        return self.aleatoric if self.aleatoric is not None and self.aleatoric.any() else None


@dataclass(frozen=True)
class ShapeSize:
    """c, b and g of the table above, the floor in (eV/Å)², the degree p, and (z, k_z) of each element."""

    scale: float
    shape: float
    own: float
    floor: float
    degree: float = DEGREE
    elements: tuple[tuple[int, float], ...] = ()

    def total(self, spread: VectorSpread) -> np.ndarray:
        """Σ, (N, 3, 3) (eV/Å)². Values that are not finite pass through."""
        values, axes = self._on_axes(spread)
        return _matrix(values, axes)

    def parts(self, spread: VectorSpread) -> tuple[np.ndarray, np.ndarray | None]:
        """Epistemic and aleatoric part of Σ: C Σ_e Cᵀ and C Σ_a Cᵀ with C = Σ^½ (Σ_e + Σ_a)^−½.

        Their sum is Σ, and their mutual information (BALD) is that of before, which no linear map changes.
        """
        values, axes = self._on_axes(spread)
        if spread.shapely is None or spread.aleatoric is None:
            total = _matrix(values, axes)
            return total, None if spread.aleatoric is None else 0.0 * total
        with np.errstate(all="ignore"):
            before, old_axes = _axes(spread.epistemic + spread.aleatoric)
            change = _matrix(np.sqrt(values), axes) @ _matrix(before**-0.5, old_axes)
            turned = change.swapaxes(-1, -2)
            return change @ spread.epistemic @ turned, change @ spread.aleatoric @ turned

    def _on_axes(self, spread: VectorSpread) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (N, 3) and, in columns, eigenvectors (N, 3, 3) of Σ."""
        known = _known(spread)
        with np.errstate(all="ignore"):
            return self.scale * (_size(known, self) * self._of_elements(spread.numbers))[:, None] * _shape(known, self.shape), known.axes

    def _of_elements(self, numbers: np.ndarray | None) -> np.ndarray | float:
        """k_z of every atom."""
        if numbers is None:
            return 1.0
        found = np.ones(len(numbers))
        for z, factor in self.elements:
            found[numbers == z] = factor
        return found


@dataclass(frozen=True, eq=False)
class _Known:
    """e, ē and, or None, a of atoms (N,); eigenvalues (N, 3) and axes (N, 3, 3) of what has the shape."""

    e: np.ndarray
    nearby: np.ndarray
    a: np.ndarray | None
    values: np.ndarray
    axes: np.ndarray


def _known(spread: VectorSpread) -> _Known:
    aleatoric = spread.shapely
    values, axes = _axes(spread.epistemic if aleatoric is None else aleatoric)
    return _Known(
        np.maximum(mean_variance(spread.epistemic), 0.0),
        spread.nearby,
        None if aleatoric is None else mean_variance(aleatoric),
        values,
        axes,
    )


def fit_shape_size(difference: np.ndarray, spread: VectorSpread, degree: float = DEGREE) -> ShapeSize:
    """c, b and g with the largest likelihood of the differences (N, 3) in eV/Å.

    Raises ValueError where there is no spread, an aleatoric part is not positive definite, or the differences are all zero.
    """
    known = _known(spread)
    if not (known.e > 0).any():
        raise ValueError("the members do not differ: there is no size")
    if known.a is not None and not (known.values > 0).all():
        raise ValueError("an aleatoric part is not positive definite: it has no shape")
    floor = floor_of(known.e)
    along = np.einsum("nij,ni->nj", known.axes, difference) ** 2

    def trial(x: np.ndarray) -> tuple[float, float]:
        """The best c for b and g, and the mean of log det Σ with it: the NLL is half of that and a constant."""
        form = ShapeSize(1.0, float(x[0]), float(x[1]), floor, degree)
        with np.errstate(all="ignore"):
            variances = _size(known, form)[:, None] * _shape(known, form.shape)
            scale = float((along / variances).mean())
            nll = along.shape[1] * np.log(scale) + float(np.log(variances).sum(axis=1).mean())
        return scale, nll if np.isfinite(nll) else WORST

    def nll(x: np.ndarray) -> float:
        return trial(x)[1]

    limits = [(0.0, MOST_SPREAD if known.a is None else MOST_SHAPE), (0.0, min(1.0, degree))]
    found: Any = minimize(nll, np.array([0.5, 0.5]), method="Nelder-Mead", bounds=limits, options={"xatol": 1e-3, "fatol": 1e-5})
    scale, lowest = trial(found.x)
    if not 0.0 < scale < np.inf or lowest == WORST:
        raise ValueError(f"the mean squared error is {scale} predicted variances, which is no scale")
    form = ShapeSize(scale, float(found.x[0]), float(found.x[1]), floor, degree)
    return form if spread.numbers is None else replace(form, elements=_elements(form, known, along, spread.numbers))


def _elements(form: ShapeSize, known: "_Known", along: np.ndarray, numbers: np.ndarray) -> tuple[tuple[int, float], ...]:
    """(z, k_z); `along`: squared differences along the axes (N, 3)."""
    variances = form.scale * _size(known, form)[:, None] * _shape(known, form.shape)
    squared = (along / variances).mean(axis=1)
    return tuple((int(z), float((squared[own].sum() + HELD) / (own.sum() + HELD))) for z in np.unique(numbers) for own in [numbers == z])


def floor_of(values: np.ndarray) -> float:
    """FLOOR of the median of those that are not zero but for rounding."""
    return FLOOR * float(np.median(values[values > ROUNDING * values.max()]))


def mean_variance(covariance: np.ndarray) -> np.ndarray:
    """tr Σ/3 of covariances (N, 3, 3), (N,), or tr Σ/k: the variance of a component, averaged over directions."""
    return np.asarray(np.trace(covariance, axis1=1, axis2=2) / covariance.shape[-1])


def _size(known: _Known, form: ShapeSize) -> np.ndarray:
    """a^(1−g) e^g ē^(p−g), (N,)."""
    size: np.ndarray = (known.e + form.floor) ** form.own * (known.nearby + form.floor) ** (form.degree - form.own)
    return size if known.a is None else size * known.a ** (1 - form.own)


def _shape(known: _Known, power: float) -> np.ndarray:
    """Eigenvalues (N, 3) with the mean 1."""
    if known.a is None:
        unit = np.where(known.e[:, None] > 0, known.values / np.where(known.e > 0, known.e, 1.0)[:, None], 1.0)
        return np.asarray(1 - power + power * np.where(np.isnan(known.e)[:, None], np.nan, unit))
    raised = (known.values / known.values[:, -1:]) ** power  # the largest is 1: no overflow
    return np.asarray(raised / raised.mean(axis=1, keepdims=True))


def _axes(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, not below zero, and axes; NaN where an entry is not finite."""
    finite = np.isfinite(covariance).all(axis=(1, 2))
    values, axes = np.linalg.eigh(np.where(finite[:, None, None], covariance, np.eye(covariance.shape[-1])))  # eigh may raise on NaN
    return np.where(finite[:, None], np.maximum(values, 0.0), np.nan), axes


def _matrix(values: np.ndarray, axes: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray((axes * values[:, None, :]) @ axes.swapaxes(-1, -2))
