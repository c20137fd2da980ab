"""How far an atom is from the atoms of the training, in the features of the last layer. NumPy only.

============ ============================ ================================================================================
symbol       variable                     meaning
============ ============================ ================================================================================
φ            features (N, L)              last-layer features of an atom: its energy is φ·w
μ_z, n_z     mean (S, L), counts          their mean over the training atoms of element z, and how many these are
C_z, C       of_element, pooled           covariance of the atoms of an element, and the mean of that over all atoms
C'_z         `_whitening`                 (n_z C_z + n₀ C)/(n_z + n₀), n₀ = SHARED: a rare element is like the others
τ_z          ridge                        RIDGE · L/(n_z + n₀) · tr C'_z/L: fewer atoms tell fewer directions
W_z          whitening (S, L, L)          W_z W_zᵀ = (C'_z + τ_z)⁻¹
d            `FeatureDistance.__call__`   √((φ − μ_z)ᵀ (C'_z + τ_z)⁻¹ (φ − μ_z) / L), no unit; about 1 or less inside the data
============ ============================ ================================================================================

The Mahalanobis distance of Lee et al. 2018 (arXiv:1807.03888), with an element in place of a class and a covariance for each; for energies
it is what last-layer prediction rigidity has of single atoms. It needs one model, where a spread needs several.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

RIDGE, SHARED = 1e-4, 10  # chosen on ethanol and acetamide, trained with 450, 100, 40 and 5 frames at 300 K (`docs/thresholds.md`)
Product = Callable[[np.ndarray, np.ndarray], np.ndarray]
SMALLEST, TINY = 1e-12, 1e-30  # of the mean square of the features, where all atoms are alike; eV², where that is zero


@dataclass(frozen=True, eq=False)
class FeatureDistance:
    """μ (S, L) and W (S, L, L) of every species, float64; W is zero for a species that the training has no atom of."""

    mean: np.ndarray
    whitening: np.ndarray

    def __call__(self, features: np.ndarray, species: np.ndarray, product: Product = np.matmul) -> np.ndarray:
        """d (N,) of features (N, L) of atoms with species indices (N,); infinite for a species without training atoms.

        `product` of matrices, for a caller whose threads NumPy's would keep from the cores.
        """
        found = np.full(len(species), np.inf)
        for z in np.unique(species):
            if self.whitening[z].any():
                own = species == z
                with np.errstate(invalid="ignore", over="ignore"):
                    found[own] = np.sqrt((product(features[own] - self.mean[z], self.whitening[z]) ** 2).mean(axis=1))
        return found

    def whitened(self, features: np.ndarray, species: np.ndarray) -> np.ndarray:
        """(φ − μ_z) W_z / √L (N, L), whose length is d; a species without training atoms is measured as the others are on average."""
        told = self.whitening.any(axis=(1, 2))
        mean, whitening = (np.where(told.reshape(-1, *[1] * (x.ndim - 1)), x, x[told].mean(axis=0)) for x in (self.mean, self.whitening))
        found = np.empty_like(features)
        for z in np.unique(species):
            own = species == z
            found[own] = (features[own] - mean[z]) @ whitening[z]
        return np.asarray(found / features.shape[1] ** 0.5)


@dataclass
class _Moments:
    """Number, mean (L,) and sum of squares about it (L, L) of the features of an element, batch by batch (Chan et al. 1983)."""

    count: int
    mean: np.ndarray
    squares: np.ndarray

    def add(self, features: np.ndarray) -> None:
        n, mean = len(features), features.mean(axis=0)
        off, total = mean - self.mean, self.count + len(features)
        self.squares += (features - mean).T @ (features - mean) + np.outer(off, off) * self.count * n / total
        self.mean, self.count = self.mean + off * n / total, total


def fit_feature_distance(batches: Iterable[tuple[np.ndarray, np.ndarray]], n_species: int) -> FeatureDistance:
    """From batches of features (N, L) and species indices (N,), all training atoms together.

    Raises ValueError for features that are not finite.
    """
    moments: list[_Moments] = []
    for values, species in batches:
        features = values.astype(np.float64)
        if not np.isfinite(features).all():
            raise ValueError("the last-layer features of the training structures are not finite: look for broken structures or weights")
        width = features.shape[1]
        moments = moments or [_Moments(0, np.zeros(width), np.zeros((width, width))) for _ in range(n_species)]
        for z in np.unique(species):
            moments[z].add(features[species == z])
    pooled = np.sum([one.squares for one in moments], axis=0) / sum(one.count for one in moments)
    return FeatureDistance(np.stack([one.mean for one in moments]), np.stack([_whitening(one, pooled) for one in moments]))


def _whitening(of_element: _Moments, pooled: np.ndarray) -> np.ndarray:
    """W (L, L); zero for an element without atoms."""
    count, width = of_element.count + SHARED, len(pooled)
    if not of_element.count:
        return np.zeros((width, width))
    variances, axes = np.linalg.eigh((of_element.squares + SHARED * pooled) / count)
    ridge = RIDGE * width / count * variances.mean() + SMALLEST * (of_element.mean**2).mean()
    return np.asarray(axes / np.sqrt(np.maximum(variances, 0.0) + max(ridge, TINY)))
