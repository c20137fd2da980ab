"""The figures of `race-calc evaluate`."""

from pathlib import Path

import numpy as np
from scipy.special import ndtri

from race_calc.evaluate.assessment import Assessment
from race_calc.report.figure import save_figure
from race_calc.report.uncertainty import Bars, Cloud, calibration_figure, error_figure, interval_figure
from race_calc.uncertainty.calibration import Calibration

TITLES = {"energy": "energies", "forces": "force components", "ellipsoids": "force vectors (d² against χ²)"}
TITLES |= {"stress": "stress components", "stress ellipsoids": "stresses (d² against χ²)"}
LEVEL = 0.9  # of the interval plot


def draw(folder: Path, found: dict[str, Assessment], calibration: Calibration | None) -> list[Path]:
    """Write the figures that the posterior allows (it gives some uncertainty), each as PNG and PDF, and return their paths."""
    known = next(iter(found.values()))
    paths = save_figure(error_figure(_clouds(found)), folder / "error_against_sigma")
    panels = {TITLES[name]: _curves(found, name) for name in known.before}
    paths += save_figure(calibration_figure(panels), folder / "calibration_curves")
    if "energy" in known.before:
        rows = {data: _bars(a, calibration) for data, a in found.items()}
        paths += save_figure(interval_figure(rows, "meV", f"{100 * LEVEL:.0f} %"), folder / "intervals")
    return paths


def _curves(found: dict[str, Assessment], name: str) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """Of the data sets that have the quantity."""
    return {data: (a.before[name], a.after.get(name)) for data, a in found.items() if name in a.before}


def _clouds(found: dict[str, Assessment]) -> dict[str, tuple[str, dict[str, Cloud]]]:
    panels = {}
    for name, unit in (("energy", "meV"), ("forces", "meV/Å"), ("stress", "meV/Å³")):
        if name in next(iter(found.values())).before:
            residuals = {data: a.residuals for data, a in found.items() if name in a.before}
            title = TITLES[name] + ("" if next(iter(found.values())).calibrated is None else ", σ calibrated")
            panels[title] = (unit, {data: Cloud(1e3 * getattr(r, name), 1e3 * getattr(r, f"{name}_std")) for data, r in residuals.items()})
    return panels


def _bars(a: Assessment, calibration: Calibration | None) -> list[tuple[str, Bars]]:
    d, z = 1e3 * a.raw.energy, float(ndtri(0.5 + 0.5 * LEVEL))
    std = 1e3 * np.asarray(a.raw.energy_std)
    found = [("before calibration", Bars(d, -z * std, z * std))]
    if calibration is not None and calibration.energy is not None:
        std = 1e3 * np.asarray(a.residuals.energy_std)
        low, high = (bound * std for bound in calibration.energy.interval(LEVEL))
        found.append(("after", Bars(d, low, high)))
    return found
