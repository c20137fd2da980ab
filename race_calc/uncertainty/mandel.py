"""Symmetric 3×3 matrices as vectors of six, in Mandel notation: xx yy zz √2 yz √2 xz √2 xy, in the order of Voigt. NumPy only.

Unlike Voigt's, the notation keeps lengths: |mandel(σ)|² = Σ_ij σ_ij², and a rotation of the structure is an orthogonal 6×6 matrix.
"""

import numpy as np

WEIGHTS = (1.0, 1.0, 1.0, 2**0.5, 2**0.5, 2**0.5)  # Mandel / Voigt


def mandel_vectors(voigt: np.ndarray) -> np.ndarray:
    """Voigt vectors (…, 6) in Mandel notation."""
    return np.asarray(voigt * np.array(WEIGHTS))


def voigt_covariance(covariance: np.ndarray) -> np.ndarray:
    """Covariances (…, 6, 6) of Mandel vectors as those of Voigt vectors."""
    weights = np.array(WEIGHTS)
    return np.asarray(covariance / weights / weights[:, None])


def mandel_covariance(covariance: np.ndarray) -> np.ndarray:
    """The inverse of `voigt_covariance`."""
    weights = np.array(WEIGHTS)
    return np.asarray(covariance * weights * weights[:, None])
