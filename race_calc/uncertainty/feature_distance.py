"""How far an atom is from the atoms of the training, in the features of the last layer. NumPy only.

============ ============================ ================================================================================
symbol       variable                     meaning
============ ============================ ================================================================================
φ            features (N, L)              last-layer features of an atom: its energy is φ·w
μ_z          mean (S, L)                  their mean over the training atoms of element z
C_z          covariance                   their covariance, over n_z atoms
τ_z          ridge                        RIDGE · L/n_z · tr C_z/L: fewer atoms tell fewer directions
W_z          whitening (S, L, L)          W_z W_zᵀ = (C_z + τ_z)⁻¹
d            `FeatureDistance.__call__`   √((φ − μ_z)ᵀ (C_z + τ_z)⁻¹ (φ − μ_z) / L), no unit; over the training its mean square is at most 1
============ ============================ ================================================================================

The Mahalanobis distance of Lee et al. 2018 (arXiv:1807.03888), with an element in place of a class and a covariance for each; for energies
it is what last-layer prediction rigidity has of single atoms. It needs one model, where a spread needs several.
"""

from dataclasses import dataclass

import numpy as np

RIDGE = 1e-4  # chosen on ethanol and acetamide at 600 and 1200 K, trained at 300 K (`docs/calibration.md`)
SMALLEST, TINY = 1e-12, 1e-30  # of the mean square of the features, where all atoms of an element are alike; eV², where that is zero


@dataclass(frozen=True, eq=False)
class FeatureDistance:
    """μ (S, L) and W (S, L, L) of every species, float64; W is zero for a species that the training has no atom of."""

    mean: np.ndarray
    whitening: np.ndarray

    def __call__(self, features: np.ndarray, species: np.ndarray) -> np.ndarray:
        """d (N,) of features (N, L) of atoms with species indices (N,); infinite for a species without training atoms."""
        found = np.full(len(species), np.inf)
        for z in np.unique(species):
            if self.whitening[z].any():
                own = species == z
                found[own] = np.sqrt((((features[own] - self.mean[z]) @ self.whitening[z]) ** 2).mean(axis=1))
        return found


def fit_feature_distance(features: np.ndarray, species: np.ndarray, n_species: int) -> FeatureDistance:
    """From features (N, L) of all training atoms and their species indices (N,).

    Raises ValueError for features that are not finite.
    """
    if not np.isfinite(features).all():
        raise ValueError("the last-layer features of the training structures are not finite: look for broken structures or weights")
    width = features.shape[1]
    mean, whitening = np.zeros((n_species, width)), np.zeros((n_species, width, width))
    for z in np.unique(species):
        own = features[species == z].astype(np.float64)
        mean[z] = own.mean(axis=0)
        deviations = own - mean[z]
        variances, axes = np.linalg.eigh(deviations.T @ deviations / len(own))
        ridge = RIDGE * width / len(own) * variances.mean() + SMALLEST * (own**2).mean()
        whitening[z] = axes / np.sqrt(np.maximum(variances, 0.0) + max(ridge, TINY))
    return FeatureDistance(mean, whitening)
