"""Whether the atoms that err most are those the model is least sure of. NumPy only.

=================== ======================= ===================================================
quantity            variable                formula
=================== ======================= ===================================================
ρ                   rank_correlation        Pearson correlation of the ranks, ties share their mean
                                            (Spearman 1904)
ρ of the forces     force_rank_correlation  ρ(√tr Σ, |ΔF|) over the atoms
ceiling             force_rank_ceiling      the same with ΔF drawn from N(0, Σ)
=================== ======================= ===================================================

Even a model whose Σ is exactly right does not reach ρ = 1: the size of one error is drawn, not known. How much it
reaches depends on how different its Σ are, hence the ceiling. A common scale of all Σ changes neither number.
"""

import numpy as np

from race_calc.uncertainty.metrics import vectors_and_covariances

DRAWS = 10  # sets of simulated errors; with thousands of atoms one alone is good to 0.01


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's ρ of two arrays of one shape, −1 to 1. NaN where an entry is NaN or one of the two is constant.

    Raises ValueError for shapes that differ and for fewer than two values.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.size < 2:
        raise ValueError(f"the arrays to rank have the shapes {a.shape} and {b.shape}: give two of one shape and two values or more")
    if np.isnan(a).any() or np.isnan(b).any():
        return float("nan")
    a, b = _centred_ranks(a.ravel()), _centred_ranks(b.ravel())
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else float("nan")


def force_rank_correlation(difference: np.ndarray, covariance: np.ndarray) -> float:
    """ρ of √tr Σ and |ΔF| over N atoms; `difference` (N, 3), `covariance` (N, 3, 3), of one unit and its square.

    Does not depend on the orientation. Raises ValueError for shapes that do not fit and for fewer than two atoms.
    """
    difference, covariance = vectors_and_covariances(difference, covariance)
    return rank_correlation(np.trace(covariance, axis1=-2, axis2=-1), np.linalg.norm(difference, axis=-1))


def force_rank_ceiling(covariance: np.ndarray, seed: int = 0) -> float:
    """What `force_rank_correlation` is on average if every error is drawn from its own N(0, Σ); `covariance` (N, 3, 3).

    The mean of DRAWS simulations. Directions without variance stay without error; NaN where an entry is not finite.
    """
    covariance = np.asarray(covariance, dtype=np.float64)
    if covariance.ndim != 3 or covariance.shape[-1] != covariance.shape[-2]:
        raise ValueError(f"covariance has the shape {covariance.shape}: give (N, 3, 3), one matrix for each atom")
    if not np.isfinite(covariance).all():
        return float("nan")
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]  # (N, 3, 3), root rootᵀ = Σ
    rng = np.random.default_rng(seed)
    drawn = [np.einsum("nij,nj->ni", root, rng.normal(size=values.shape)) for _ in range(DRAWS)]
    return float(np.mean([force_rank_correlation(difference, covariance) for difference in drawn]))


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - 0.5 * (counts - 1)
    return np.asarray(middle[index] - 0.5 * (len(values) + 1))
