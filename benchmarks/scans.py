"""Whether σ grows with the error along a scan: bonds stretched and compressed, dihedrals turned, a molecule flattened against a wall.

    python benchmarks/shifts.py --molecule CH3CH2OH --out runs/shifts       makes the model and its data, GFN2-xTB at 300 K
    python benchmarks/scans.py --run runs/shifts/CH3CH2OH --figure docs/figures/scans.png

The truth is GFN2-xTB, which labelled the training; the model is one of release 0.2 or later, which knows its distances. It is calibrated
with its 50 validation frames. Prints for each scan Spearman's rank correlation of σ and error along it, of forces (root mean square over
atoms and components) and of energies (against the relaxed molecule), and the share of force components inside 90 %; of the points where
forces are wrong by more than three σ, how many the score of the spread and that of the feature distance put above their thresholds. Draws
σ and error of the forces. Needs the extra `xtb`. The same for a crystal: compression.py.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.data import covalent_radii
from ase.optimize import BFGS
from common import arguments, report
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from race_calc import RACECalculator
from race_calc.data.dataset import read_dataset
from race_calc.evaluate.calibrate import calibrate
from race_calc.label.methods import Method
from race_calc.report.figure import BLUE, VERMILION
from race_calc.uncertainty.metrics import coverage
from race_calc.uncertainty.scores import score

POINTS = 41
SPREAD, DISTANCE = "forces_uncertainty_max_epistemic", "feature_distance_max"
BLIND = 3.0  # errors of so many σ
UNITS = {
    "bond": "Å",
    "dihedral": "degrees",
    "flattened": "height / that at rest",
    "compressed": "volume / that at rest",
}  # by the first word


def bond(atoms: Atoms, i: int, j: int, to: float) -> Atoms:
    """The bond i–j at `to` Å; all that hangs on j moves with it."""
    moved = atoms.copy()
    moved.set_distance(i, j, to, fix=0, indices=side(atoms, i, j))
    return moved


def turned(atoms: Atoms, four: tuple[int, int, int, int], degrees: float) -> Atoms:
    """The dihedral of four atoms at so many degrees; all that hangs on the third atom turns."""
    moved = atoms.copy()
    moved.set_dihedral(*four, degrees, indices=side(atoms, four[1], four[2]))
    return moved


def flattened(atoms: Atoms, share: float) -> Atoms:
    """Heights above the mean plane times `share`, as if a wall pressed the molecule."""
    moved = atoms.copy()
    at = moved.positions - moved.positions.mean(axis=0)
    normal = np.linalg.svd(at)[2][2]
    moved.positions += (share - 1) * np.outer(at @ normal, normal)
    return moved


def bonded(atoms: Atoms) -> np.ndarray:
    """Which atoms are closer than 1.25 sums of covalent radii, (N, N)."""
    radii = covalent_radii[atoms.numbers]
    near = atoms.get_all_distances() < 1.25 * (radii[:, None] + radii)
    return near & ~np.eye(len(atoms), dtype=bool)


def side(atoms: Atoms, i: int, j: int) -> list[int]:
    """The atoms on the side of j of the bond i–j, j among them."""
    near = bonded(atoms)
    near[i, j] = near[j, i] = False
    found, new = {j}, [j]
    while new:
        fresh = [int(n) for n in np.flatnonzero(near[new.pop()]) if int(n) not in found]
        found.update(fresh)
        new += fresh
    return sorted(found)


def scans(atoms: Atoms) -> dict[str, tuple[np.ndarray, Callable[[float], Atoms]]]:
    """Name → values along it, and the structure at one: every kind of bond, the first dihedral around a C–C or C–O bond, the wall."""
    found: dict[str, tuple[np.ndarray, Callable[[float], Atoms]]] = {}
    distances = atoms.get_all_distances()
    for i, j in np.argwhere(np.triu(bonded(atoms))).tolist():
        pair, length = "–".join(sorted((atoms[i].symbol, atoms[j].symbol))), distances[i, j]
        if f"bond {pair}" not in found:
            found[f"bond {pair}"] = np.linspace(0.8 * length, 1.5 * length, POINTS), lambda to, i=i, j=j: bond(atoms, i, j, to)
    four = dihedral(atoms)
    if four is not None:
        found["dihedral"] = np.linspace(-180, 180, POINTS), lambda degrees: turned(atoms, four, degrees)
    found["flattened"] = np.linspace(1.0, 0.6, POINTS), lambda share: flattened(atoms, share)
    return found


def dihedral(atoms: Atoms) -> tuple[int, int, int, int] | None:
    """The first around a bond of two heavy atoms that is in no ring."""
    near, heavy = bonded(atoms), atoms.numbers > 1
    for j, k in np.argwhere(np.triu(near & heavy[:, None] & heavy)).tolist():
        first, last = ([int(n) for n in np.flatnonzero(near[a]) if n != b] for a, b in ((j, k), (k, j)))
        if first and last and j not in side(atoms, j, k):
            return first[0], j, k, last[0]
    return None


def measured(values: np.ndarray, at: Callable[[float], Atoms], calculator: RACECalculator, truth, zero: tuple[float, float]) -> dict:
    rows = []
    for value in values:
        atoms, same = at(float(value)), at(float(value))
        atoms.calc, same.calc = calculator, truth
        difference = atoms.get_forces() - same.get_forces()
        std, results = atoms.calc.results["forces_uncertainty"], atoms.calc.results
        energy = abs(results["energy"] - zero[0] - (same.get_potential_energy() - zero[1]))
        row = [
            np.sqrt(np.mean(difference**2)),
            np.sqrt(np.mean(std**2)),
            energy,
            results["energy_uncertainty"],
            coverage(difference, std, 0.9),
            results["feature_distance"].max(),
            score(calculator.prediction(), SPREAD)[0][0],
        ]
        rows.append(row)
    names = ("error", "sigma", "energy", "energy_sigma", "inside", DISTANCE, SPREAD)
    return {"values": values, **dict(zip(names, np.array(rows).T))}


def ranks(name: str, found: dict) -> dict[str, float]:
    """What is told of a scan: rank correlations with the error, and how many forces are inside their intervals."""
    of = lambda one, other: float(spearmanr(found[one], found[other])[0])  # noqa: E731
    return {
        f"{name}, rank of force σ and error": of("sigma", "error"),
        f"{name}, rank of energy σ and error": of("energy_sigma", "energy"),
        f"{name}, forces inside 90 %": float(found["inside"].mean()),
        f"{name}, rank of feature distance and error": of(DISTANCE, "error"),
    }


def draw(title: str, found: dict[str, dict], out: Path) -> None:
    """A panel for each scan."""
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(found) :]:
        axes.set_visible(False)
    for axes, (name, one) in zip(panels, found.items()):
        axes.semilogy(one["values"], 1e3 * one["error"], color=VERMILION, label="error")
        axes.semilogy(one["values"], 1e3 * one["sigma"], color=BLUE, label="σ")
        axes.set_title(name, fontsize=8)
        axes.set_xlabel(UNITS[name.split()[0]], fontsize=8)
        axes.tick_params(which="both", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(fontsize=8, frameon=False)
    figure.supylabel("forces, RMS, meV/Å", fontsize=8)
    figure.suptitle(title, fontsize=9)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    given = arguments(__doc__, run="runs/shifts/CH3CH2OH", figure="")
    run, truth = Path(given.run), Method("gfn2-xtb").calculator()
    atoms = molecule(run.name)
    atoms.calc = truth
    BFGS(atoms, logfile=None).run(fmax=1e-3, steps=500)
    calculator = RACECalculator(run / "model", "cpu", calibrated=False)
    calibration, _ = calibrate(calculator, read_dataset(run / "train.xyz", "450:"))
    calculator.calibration = calibration
    zero = calculator.get_property("energy", atoms), atoms.get_potential_energy()
    atoms.calc = None
    drawn = {name: measured(values, at, calculator, truth, zero) for name, (values, at) in scans(atoms).items()}
    results = {key: value for name, one in drawn.items() for key, value in ranks(name, one).items()}
    of_forces = [results[f"{name}, rank of force σ and error"] for name in drawn]
    if given.figure:
        draw(f"{run.name}, trained at 300 K with GFN2-xTB", drawn, Path(given.figure))
    blind = np.concatenate([one["error"] > BLIND * one["sigma"] for one in drawn.values()])
    results["points off by three σ"] = int(blind.sum())
    for name in (SPREAD, DISTANCE):
        above = np.concatenate([one[name] for one in drawn.values()])[blind] > calculator.thresholds[name]
        results[f"of these {name} sees"] = int(above.sum())
    report(given, results | {"median rank of forces": float(np.median(of_forces)), "worst": float(min(of_forces))})
