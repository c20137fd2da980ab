"""One number to choose a configuration by: errors, calibration and detection of unknown structures. Needs nothing.

The paper combines the normalised RMSE and calibration error of energies and forces and the AUROC into one validation
score; its normalisation is not public. This one is ours, the mean of five terms from 0 (perfect) to 1 (useless):

=================== ======================= ===========================================================
quantity            variable                term
=================== ======================= ===========================================================
RMSE_E, RMSE_F      rmse_energy, _forces    RMSE / (RMSE + reference)
CE_E, CE_F          ce_energy, _forces      √(CE / CE_max), CE_max = mean of p² over the 99 levels ≈ 1/3
AUROC               auroc                   2 (1 − AUROC), at most 1
=================== ======================= ===========================================================

- A reference is an error of the size to be expected, the same for all configurations that are compared, such as that
  of a baseline: the term is ½ there, ⅓ at half of it, ⅔ at twice, 1 for a run that diverged.
- The root makes CE a deviation of levels, of the same order as an RMSE: σ half as large as it should be gives 0.20,
  a third 0.29. It has a floor: with n independent validation frames a perfect model has about √(1/(2n)), 0.07
  for n = 100, and this scatters by 0.03, the score thus by nearly 0.01: smaller differences mean nothing.
- An AUROC of ½ (a score that knows nothing) or less gives 1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

CE_MAX = sum((j / 100) ** 2 for j in range(1, 100)) / 99


@dataclass(frozen=True)
class Errors:
    """RMSE in any unit, calibration errors (`race_calc.uncertainty.metrics.level_error`), of energies and of forces."""

    rmse_energy: float
    rmse_forces: float
    ce_energy: float
    ce_forces: float


def unified_terms(errors: Errors, auroc: float, reference_energy: float, reference_forces: float) -> dict[str, float]:
    """The five terms, each 0 (perfect) to 1 (useless), by name; errors in the units of their references.

    An infinite RMSE gives 1. Raises ValueError for numbers that cannot be: a negative or NaN RMSE, a reference that is
    not positive and finite, a calibration error outside 0 … CE_MAX, an AUROC outside 0 … 1.
    """
    return {
        "rmse_energy": _error_term("energies", errors.rmse_energy, reference_energy),
        "rmse_forces": _error_term("forces", errors.rmse_forces, reference_forces),
        "ce_energy": math.sqrt(_within("calibration error of energies", errors.ce_energy, CE_MAX) / CE_MAX),
        "ce_forces": math.sqrt(_within("calibration error of forces", errors.ce_forces, CE_MAX) / CE_MAX),
        "auroc": min(1.0, 2.0 * (1.0 - _within("AUROC", auroc, 1.0))),
    }


def mean_term(terms: Mapping[str, float]) -> float:
    """The score that `unified_terms` make."""
    return sum(terms.values()) / len(terms)


def _error_term(name: str, rmse: float, reference: float) -> float:
    if not rmse >= 0.0:
        what_to_do = "give a number of at least zero; a configuration whose predictions are not numbers cannot be scored, leave it out"
        raise ValueError(f"the RMSE of {name} is {rmse}: {what_to_do}")
    if not 0.0 < reference < math.inf:
        raise ValueError(f"the reference RMSE of {name} is {reference}: give a positive number, such as a baseline's")
    return rmse / (rmse + reference) if rmse < math.inf else 1.0


def _within(name: str, value: float, largest: float) -> float:
    if not 0.0 <= value <= largest * (1.0 + 1e-12):
        raise ValueError(f"the {name} is {value}: it must lie between 0 and {largest:.4g}")
    return float(value)
