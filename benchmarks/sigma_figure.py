"""The figure of docs/sigma.md: a bond of 3BPA is pulled; σ of the forces along it, and ellipsoids where it is 1.15 times as long.

python benchmarks/sigma_figure.py --out docs/figures/sigma.png
"""

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.io import read
from common import arguments
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from race_calc import RACECalculator
from race_calc.report.figure import BLUE, ORANGE, VERMILION
from race_calc.report.molecule import bonds

OXYGEN, CARBON, MOVED = 5, 13, range(13, 27)  # the bond O-CH2; what moves with the carbon
SHOWN, ENLARGED, COMPONENTS = 1.15, 3.0, 3  # times the length; Å per eV/Å in the picture; of a force
SCORE = "forces_uncertainty_rms_epistemic"


def pulled(relaxed: Atoms, times: float) -> Atoms:
    atoms = relaxed.copy()
    atoms.set_distance(OXYGEN, CARBON, times * relaxed.get_distance(OXYGEN, CARBON), fix=0, indices=MOVED)
    return atoms


def root_mean_square(covariance: np.ndarray) -> np.ndarray:
    """σ of a force component from (…, 3, 3), the mean over directions."""
    return np.sqrt(np.trace(covariance, axis1=-2, axis2=-1) / COMPONENTS)


def draw_scan(ax, calculator: RACECalculator, relaxed: Atoms) -> None:
    times, found = np.linspace(0.8, 1.5, 71), []
    for t in times:
        calculator.calculate(pulled(relaxed, t))
        parts = [calculator.results[f"forces_covariance_{part}"] for part in ("epistemic", "aleatoric")]
        found.append([np.sqrt(np.mean(root_mean_square(part) ** 2)) for part in parts])
    epistemic, aleatoric = np.array(found).T
    threshold = calculator.thresholds[SCORE]
    ax.semilogy(times, epistemic, color=BLUE, label="epistemic: members disagree")
    ax.semilogy(times, aleatoric, color=ORANGE, ls="-.", label="aleatoric: members predict noise")
    ax.axhline(threshold, color="black", ls="--", lw=1)
    ax.annotate("threshold “auto”", (1.0, threshold), (0, 3), textcoords="offset points", ha="center", fontsize=8)
    ax.axvspan(*known_range(times, epistemic, threshold), color="#EFEFEF", zorder=0)
    ax.axvline(SHOWN, color=VERMILION, lw=1, ls=":")
    ax.set(xlabel="length of the O–CH₂ bond / that of a training frame", ylabel="σ of the forces (eV/Å), all atoms")
    ax.legend(fontsize=8, loc="lower right", frameon=False)
    print(f"below the threshold from {known_range(times, epistemic, threshold)}; largest at {times[epistemic.argmax()]:.2f}")


def known_range(times: np.ndarray, values: np.ndarray, threshold: float) -> tuple[float, float]:
    known = times[values < threshold]
    return float(known.min()), float(known.max())


def draw_ellipsoids(ax, calculator: RACECalculator, atoms: Atoms) -> None:
    """Seen along the axis in which the molecule is thinnest; each ellipse is one standard deviation, enlarged."""
    calculator.calculate(atoms)
    centred = atoms.positions - atoms.positions.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, [2, 1]]  # (3, 2), longest first
    view = centred @ axes
    for i, j in bonds(atoms.positions, covalent_radii[atoms.numbers]):
        ax.plot(*view[[i, j]].T, color="0.6", lw=1.5, zorder=1)
    ax.plot(*view[[OXYGEN, CARBON]].T, color=VERMILION, lw=1.5, ls=":", zorder=1)
    for place, symbol, covariance in zip(view, atoms.symbols, calculator.results["forces_covariance"]):
        squared, directions = np.linalg.eigh(axes.T @ covariance @ axes)
        width, height = 2 * ENLARGED * np.sqrt(squared)
        angle = np.degrees(np.arctan2(directions[1, 0], directions[0, 0]))
        ax.add_patch(Ellipse(place, width, height, angle=angle, facecolor=BLUE, alpha=0.35, edgecolor=BLUE, zorder=2))
        ax.plot(*place, "o", color="0.3", ms=3 if symbol != "H" else 1.5, zorder=3)
    ax.set(aspect="equal")
    ax.margins(0.1)
    ax.axis("off")
    ax.set_title(f"at {SHOWN} times: 1σ of each force, 1 eV/Å drawn as {ENLARGED:g} Å", fontsize=8)


given = arguments(__doc__, model="models/3bpa-de", out="docs/figures/sigma.png")
calculator, relaxed = RACECalculator(given.model), read("models/3bpa-de/start.xyz")
figure = Figure(figsize=(9, 3.8), layout="constrained")
FigureCanvasAgg(figure)
left, right = figure.subplots(1, 2, width_ratios=(1.1, 1.0))
draw_scan(left, calculator, relaxed)
draw_ellipsoids(right, calculator, pulled(relaxed, SHOWN))
figure.savefig(given.out, dpi=120)
