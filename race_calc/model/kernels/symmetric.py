"""exp of many small symmetric matrices: by the compiled library, or by NumPy where there is none."""

import ctypes
import math

import numpy as np

from race_calc.model.kernels.build import library, problem

MOST = 6  # rows, of symmetric.c
LARGEST = 2 * math.log(1e3)  # of a logarithm, also in symmetric.c and race_uncertainty.c: a σ of 1,000 eV/Å, far from all that was learned


def symmetric_exponential(matrices: np.ndarray) -> np.ndarray:
    """(…, k, k) → (…, k, k), float64, of eigenvalues up to exp(LARGEST); NaN where an entry is not finite."""
    if matrices.shape[-1] > MOST or problem() is not None:
        return _by_numpy(matrices)
    values = np.ascontiguousarray(matrices, dtype=np.float64)
    out = np.empty_like(values)
    k = values.shape[-1]
    library().symmetric_exponential(
        ctypes.c_int64(values.size // k**2), ctypes.c_int64(k), ctypes.c_void_p(values.ctypes.data), ctypes.c_void_p(out.ctypes.data)
    )
    return out


def _by_numpy(matrices: np.ndarray) -> np.ndarray:
    finite = np.isfinite(matrices).all(axis=(-2, -1), keepdims=True)
    values, axes = np.linalg.eigh(np.where(finite, matrices, 0.0))  # eigh may raise on NaN
    raised = np.exp(np.minimum(values, LARGEST))
    return np.where(finite, (axes * raised[..., None, :]) @ axes.swapaxes(-1, -2), np.nan)
