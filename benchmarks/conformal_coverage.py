"""Coverage of conformal intervals of energies, by simulation: python benchmarks/conformal_coverage.py

Known truth: σ²_e log-normal, σ²_a constant, errors Gaussian with the variance 2 σ²_e + 0.3 σ²_a. n structures calibrate, then the share
of new ones inside E ± q σ is counted, σ and q of the calibration (factors, or the size of the spread, as `fit_calibration` chooses); mean
over many calibrations. "both parts" has an aleatoric part, "spread alone" has none.
"""

import numpy as np
from common import arguments, report

from race_calc.uncertainty.calibration import fit_calibration
from race_calc.uncertainty.metrics import LEVELS
from race_calc.uncertainty.residuals import Residuals

NEW = 200  # structures that each calibration is tested with


def drawn(n: int, rng: np.random.Generator, parts: bool) -> Residuals:
    epistemic, aleatoric = np.exp(rng.normal(size=n)), (0.5 if parts else 0.0) * np.ones(n)
    return Residuals(
        energy=rng.normal(size=n) * np.sqrt(2.0 * epistemic + 0.3 * aleatoric),
        energy_variance=epistemic + aleatoric,
        energy_aleatoric=aleatoric if parts else None,
        spread_members=None if parts else 10,
        forces=np.zeros((n, 3)),
        frame=np.arange(n),
        numbers=np.ones(n, dtype=int),
        force_size=np.zeros(n),
    )


def coverage(n: int, level: int, times: int, parts: bool, seed: int = 0) -> tuple[float, float]:
    """Mean share inside the interval of the level with this number (68, 90, 95 %), and its standard error."""
    shares = []
    for trial in range(times):
        rng = np.random.default_rng((seed, n, trial))
        fitted, new = fit_calibration(drawn(n, rng, parts)), drawn(NEW, rng, parts)
        assert fitted.energy is not None
        inside = np.abs(new.energy) <= fitted.energy.conformal[level].quantile * fitted.scaled(new).energy_std
        shares.append(inside.mean())
    return float(np.mean(shares)), float(np.std(shares) / times**0.5)


given = arguments(__doc__, times=3000)
found = {}
for n in (10, 20, 50, 100):
    found[f"{n}: promised at least"] = float(np.ceil((n + 1) * LEVELS[1]) / (n + 1))
    for name, parts in (("spread alone", False), ("both parts", True)):
        mean, error = coverage(n, 1, given.times, parts)
        found[f"{n}: {name}"], found[f"{n}: {name}, standard error"] = mean, error
report(given, found)
