"""The errors that a training had on its validation structures, as text."""

from collections.abc import Mapping
from typing import Any

MEANS = {"mean_energy_rmse_eV": ("meV", 1), "mean_force_rmse_eV_per_A": ("meV/Å", 1), "mean_stress_rmse_eV_per_A3": ("meV/Å³", 3)}


def errors_text(measured: Mapping[str, Any]) -> str | None:
    """RMSE of the mean of the members: energies, forces and, where there were labels, stresses; None where a record has none of them.
    What has no forces is told in the unit of the network (`race_calc.model.surfaces.Constants`)."""
    if "mean_energy_rmse_eV" in measured and "mean_force_rmse_eV_per_A" not in measured:  # a scalar or a property
        value = measured["mean_energy_rmse_eV"]
        return "not finite" if value is None else f"{value:.3g} in the network's unit"
    found = {name: measured[name] for name in MEANS if name in measured}
    if any(value is None for value in found.values()):
        return "not finite"
    return ", ".join(f"{1e3 * value:.{MEANS[name][1]}f} {MEANS[name][0]}" for name, value in found.items()) or None
