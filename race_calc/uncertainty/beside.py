"""What is predicted beside energies, forces and stress, with variances: the gap between two states, and scalars. NumPy only."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from race_calc.uncertainty.prediction import Extra, Prediction

GAP = "gap"
TOTAL = "_uncertainty"  # after the name of a scalar: its σ


@dataclass(frozen=True, eq=False)
class Beside:
    """Of B structures: values and their variances (B,); a part is None where it is not known."""

    value: np.ndarray
    epistemic: np.ndarray | None
    aleatoric: np.ndarray | None

    @property
    def variance(self) -> np.ndarray | None:
        """Total, None where there is no part."""
        parts = [part for part in (self.epistemic, self.aleatoric) if part is not None]
        return np.sum(parts, axis=0) if parts else None


def beside(prediction: Prediction) -> dict[str, Beside]:
    """By name, what has a value and perhaps a variance."""
    found = {}
    if prediction.gap is not None:
        known = prediction.available
        epistemic = prediction.gap_epistemic if "gap_uncertainty_epistemic" in known else None
        found[GAP] = Beside(prediction.gap, epistemic, prediction.gap_aleatoric)
    for name, extra in prediction.extra.items():
        total = prediction.extra.get(name + TOTAL)
        if total is not None:
            several = prediction.n_members > 1
            aleatoric = np.maximum(total.mean**2 - (extra.epistemic if several else 0.0), 0.0)  # rounding
            none = several and not (aleatoric > 1e-9 * total.mean**2).any()
            found[name] = Beside(extra.mean, extra.epistemic if several else None, None if none else aleatoric)
    return found


def with_variances(prediction: Prediction, name: str, epistemic: np.ndarray | None, aleatoric: np.ndarray | None) -> dict[str, Any]:
    """The fields of the prediction with other variances of what goes by that name."""
    if name == GAP:
        given = {"gap_epistemic": epistemic, "gap_aleatoric": aleatoric}
        return {field: value for field, value in given.items() if value is not None}
    total = np.sqrt(np.sum([part for part in (epistemic, aleatoric) if part is not None], axis=0))
    old = prediction.extra[name]
    spread = old.epistemic if epistemic is None else epistemic
    changed = {name: Extra(old.mean, spread, True), name + TOTAL: Extra(total, np.zeros_like(total), True)}
    return {"extra": prediction.extra | changed}
