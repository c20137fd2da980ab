"""A finished training against its validation structures: predictions against references, errors against σ. NumPy and matplotlib only."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from race_calc.data.dataset import Dataset
from race_calc.data.references import References
from race_calc.evaluate.predict import stress_labels
from race_calc.report.colours import BLUE
from race_calc.report.figure import STYLE
from race_calc.report.page.parts import thinned
from race_calc.report.uncertainty import POINTS, Cloud, cloud_panel
from race_calc.uncertainty.residuals import Residuals


def parity_figure(residuals: Residuals, dataset: Dataset, references: References) -> Figure:
    """A column each for energies (per atom, less the reference energies), force components and, where there are labels, stresses.

    Above predictions against references, below |error| against σ with the bands in which 70, 90 and 99 % of the points of a right σ
    lie. σ is that of the training, before a calibration.
    """
    sizes = np.array([len(atoms) for atoms in dataset.structures])
    rest = dataset.energy - [references.reference_energy(atoms.numbers) for atoms in dataset.structures]
    columns = [
        ("energies per atom", "meV", rest / sizes, residuals.energy / sizes, _over(residuals.energy_std, sizes)),
        ("force components", "meV/Å", np.concatenate(dataset.forces), residuals.forces, residuals.forces_std),
    ]
    if residuals.stress is not None:
        columns.append(("stress components", "meV/Å³", stress_labels(dataset), residuals.stress, residuals.stress_std))
    figure = Figure(figsize=(3.2 * len(columns) + 0.4, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(columns), squeeze=False)
    for (above, below), (title, unit, reference, error, std) in zip(axes.T, columns):
        _parity_panel(above, 1e3 * reference.ravel(), 1e3 * error.ravel())
        above.set_title(title, fontsize=9)
        above.set_xlabel(f"reference ({unit})", **STYLE)
        above.set_ylabel(f"predicted ({unit})", **STYLE)
        if std is None:
            below.set_axis_off()
            continue
        cloud_panel(below, {"": Cloud(1e3 * error, 1e3 * std)})
        below.set_title("bands: 70, 90, 99 % of the points, if σ is right", fontsize=7)
        below.set_xlabel(f"predicted σ ({unit})", **STYLE)
        below.set_ylabel(f"|error| ({unit})", **STYLE)
    return figure


def _over(std: np.ndarray | None, sizes: np.ndarray) -> np.ndarray | None:
    return None if std is None else std / sizes


def _parity_panel(ax, reference: np.ndarray, error: np.ndarray) -> None:
    known = np.isfinite(reference) & np.isfinite(error)
    reference, error = reference[known], error[known]
    if not len(error):
        return
    picked = thinned(np.abs(error), POINTS)
    ends = np.array([reference.min(), reference.max()])
    ax.plot(ends, ends, color="black", lw=0.8, ls=":", zorder=1)
    ax.scatter(reference[picked], (reference - error)[picked], s=6, color=BLUE, alpha=0.5, lw=0, rasterized=len(picked) > 500, zorder=2)
    rmse = float(np.sqrt(np.mean(error**2)))
    ax.annotate(f"RMSE {rmse:.3g}", (0.04, 0.93), xycoords="axes fraction", fontsize=8)
    ax.tick_params(labelsize=7)
