"""BALD: mutual information between a prediction and the parameters. NumPy only.

Houlsby et al. 2011 (arXiv:1112.5745), with Gaussian moment matching as in Willow et al.: the entropy of the total Gaussian minus the mean
entropy of the members, in nats. The constants of the Gaussian entropy cancel.

======================== ===========================================
symbol                   variable
======================== ===========================================
σ²_m, Σ_m                energy_var, force_cov (aleatoric, member m)
Var_m μ, Cov_m F         epistemic (population, ddof 0)
σ²_total, Σ_total        mean of σ²_m or Σ_m + epistemic
======================== ===========================================

By the concavity of log and log det both are ≥ 0; rounding below 0 is clipped. A variance that is not positive, a covariance with a
determinant that is not positive, and anything not finite give NaN, never an exception. So the members must have positive variances: a
noise of zero has no entropy.
"""

from collections.abc import Callable

import numpy as np


def bald_energy(epistemic: np.ndarray, energy_var: np.ndarray | None) -> np.ndarray | None:
    """½ [log σ²_total − mean_m log σ²_m], (B,) nat, or None without variances.

    epistemic: variance between members, (B,) eV². energy_var: aleatoric variance of each member, (M, B) eV².
    """
    return None if energy_var is None else _information(epistemic, energy_var, lambda variance: np.log(_positive(variance, variance)))


def bald_forces(epistemic: np.ndarray, force_cov: np.ndarray | None) -> np.ndarray | None:
    """½ [log det Σ_total − mean_m log det Σ_m] for each atom, (N,) nat, or None without covariances.

    epistemic: covariance between members, (N, 3, 3) (eV/Å)². force_cov: aleatoric covariance of each member, (M, N, 3, 3) (eV/Å)².
    """
    return None if force_cov is None else _information(epistemic, force_cov, lambda covariance: _positive(*np.linalg.slogdet(covariance)))


def _information(epistemic: np.ndarray, aleatoric: np.ndarray, log: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    members = np.asarray(aleatoric, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        nat: np.ndarray = 0.5 * (log(members.mean(axis=0) + epistemic) - log(members).mean(axis=0))
        return nat.clip(min=0.0)  # keeps NaN


def _positive(sign: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.where(sign > 0, values, np.nan)
