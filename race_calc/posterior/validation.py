"""The errors that a training had on its validation structures, as text."""

from collections.abc import Mapping
from typing import Any

MEANS = (("mean_energy_rmse_eV", "meV"), ("mean_force_rmse_eV_per_A", "meV/Å"), ("mean_stress_rmse_eV_per_A3", "meV/Å³"))


def errors_text(measured: Mapping[str, Any]) -> str | None:
    """RMSE of the mean of the members: energies, forces and, where there were labels, stresses; None where a record has none of them."""
    found = [(measured[name], unit) for name, unit in MEANS if name in measured]
    if any(value is None for value, _ in found):
        return "not finite"
    return ", ".join(f"{1e3 * value:.1f} {unit}" for value, unit in found) or None
