"""What `models/silicon` knows: errors and stress intervals on mlearn silicon, and crystals: constants, defects, compressions, phases.

    python benchmarks/silicon.py --data FOLDER_OF_mlearn [--model models/silicon] [--only errors,intervals,crystal,compression,phases]

errors       of the published test split, and of each kind of frame in it
intervals    68, 90 and 95 % intervals of the stress components: five folds of all 225 frames, calibrated on four, tested on the fifth
             (202 of them chose the weights); and of the 23 test frames with the calibration of the model
crystal      lattice constant, elastic constants (with fixed fractional coordinates, as the DFT of the set has them, and relaxed) and the
             energy to form a vacancy, with 95 % bars (1.96 σ); DFT: stresses of the set at strains of ±2 %
compression  the crystal at smaller volumes: what the default monitor flags; the data end at 0.89 of the volume, by one axis
held-back    writes the structures of the training that chose the weights to --out, which `race-calc calibrate` takes
phases       relaxations of cell and positions (FrechetCellFilter) from strained starts of the known crystal, and from other phases
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.io import read, write
from ase.optimize import BFGS, FIRE
from ase.spacegroup import crystal
from ase.stress import full_3x3_to_voigt_6_stress
from common import arguments, report

from race_calc import RACECalculator, UncertaintyMonitor, difference, elastic_constants
from race_calc.data.sources import read_sources
from race_calc.evaluate.errors import evaluate_dataset
from race_calc.evaluate.predict import predict_dataset, residuals_of
from race_calc.evaluate.reliability import calibrated_levels, inside
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.train.config import parse_config
from race_calc.train.labels import read_labelled
from race_calc.uncertainty.calibration import fit_calibration
from race_calc.uncertainty.decisions import watched
from race_calc.uncertainty.metrics import LEVELS
from race_calc.uncertainty.scores import all_scores

TEST = {  # the published test split
    "elastic": "Si_elastic.xyz@55:",
    "solid": "Si_solid.xyz@54:",
    "liquid": "Si_liquid.xyz@36:",
    "vacancy, solid": "Si_vacancy_solid.xyz@30:",
    "vacancy, liquid": "Si_vacancy_liquid.xyz@27:",
}
FOLDS = 5
BAR = 1.96
MODEL = Path(__file__).resolve().parents[1] / "models" / "silicon"
PHASES: dict[str, Callable[[], Atoms]] = {
    "diamond, strained by 4 %": lambda: strained(bulk("Si", cubic=True), 0),
    "diamond, strained by 4 %, again": lambda: strained(bulk("Si", cubic=True), 1),
    "diamond with a vacancy": lambda: vacancy(bulk("Si", cubic=True) * (2, 2, 2)),
    "hexagonal diamond": lambda: crystal("Si", [(1 / 3, 2 / 3, 0.0625)], spacegroup=194, cellpar=[3.86, 3.86, 6.31, 90, 90, 120]),
    "beta-tin": lambda: crystal("Si", [(0, 0, 0)], spacegroup=141, cellpar=[4.8, 4.8, 2.65, 90, 90, 90]),
    "simple hexagonal": lambda: Atoms("Si", cell=[[2.7, 0, 0], [-1.35, 2.338, 0], [0, 0, 2.5]], pbc=True),
    "simple cubic": lambda: bulk("Si", "sc", a=2.53),
    "bcc": lambda: bulk("Si", "bcc", a=3.09),
    "fcc": lambda: bulk("Si", "fcc", a=3.89),
    "BC8": lambda: crystal("Si", [(0.1, 0.1, 0.1)], spacegroup=206, cellpar=[6.66, 6.66, 6.66, 90, 90, 90]),
}


def strained(atoms: Atoms, seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(-0.04, 0.04, (3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(scale=0.05, size=(len(atoms), 3))
    return atoms


def vacancy(atoms: Atoms) -> Atoms:
    del atoms[0]
    return atoms


def errors(calculator: RACECalculator, data: Path) -> dict[str, float]:
    predictor = StackPredictor(calculator.posterior)
    found: dict[str, float] = {}
    for name, files in {"test": list(TEST.values()), **{key: [value] for key, value in TEST.items()}}.items():
        dataset = read_sources(data, files)
        one = evaluate_dataset(predictor, dataset)
        found[f"{name} ({len(dataset)}): energy MAE, meV/atom"] = 1e3 * one.energy_per_atom.mae
        found[f"{name}: force RMSE, eV/Å"] = one.forces.rmse
        found[f"{name}: stress RMSE, GPa"] = one.stress.rmse / units.GPa
    return found


def intervals(calculator: RACECalculator, data: Path) -> dict[str, float]:
    predictor = StackPredictor(calculator.posterior)
    whole = read_sources(data, [source.split("@")[0] for source in TEST.values()])
    raw = residuals_of(predict_dataset(predictor, whole), whole)
    order, inner = np.random.default_rng(0).permutation(len(whole)), {level: [] for level in LEVELS}
    for fold in range(FOLDS):
        new = order[fold::FOLDS]
        calibration = fit_calibration(raw.subset(np.setdiff1d(order, new)))
        levels = calibrated_levels(raw.subset(new), calibration)["stress"]
        for level in LEVELS:
            inner[level].append(inside(levels, level, "stress"))
    found = {
        f"stress inside {100 * level:.0f} %, {len(whole)} frames": 100 * float(np.concatenate(inner[level]).mean()) for level in LEVELS
    }
    if calculator.calibration is not None:
        new = read_sources(data, list(TEST.values()))
        levels = calibrated_levels(residuals_of(predict_dataset(predictor, new), new), calculator.calibration)["stress"]
        for level in LEVELS:
            found[f"stress inside {100 * level:.0f} %, {len(new)} test frames, as shipped"] = 100 * float(
                inside(levels, level, "stress").mean()
            )
    return found


def held_back(calculator: RACECalculator, data: Path, out: Path) -> dict[str, int]:
    config = parse_config(calculator.checkpoint.training["config"])
    found = read_labelled(config.data, data, config.training.seed, []).validation
    frames = []
    for atoms, energy, forces, stress in zip(found.structures, found.energy, found.forces, found.stress):
        frames.append(atoms.copy())
        frames[-1].calc = SinglePointCalculator(frames[-1], energy=energy, forces=forces, stress=full_3x3_to_voigt_6_stress(stress))
    write(out, frames)
    return {f"structures in {out}": len(frames)}


def dft_constants(data: Path) -> dict[str, float]:
    """From central differences of the stresses at strains of ±2 % along and across the first modes."""
    frames = {atoms.info["description"]: atoms for atoms in read(data / "Si_elastic.xyz", ":")}
    ends = {mode: [frames[f"Si 2x2x2 cell, mode {mode}, strain {sign}0.02"] for sign in ("", "-")] for mode in (0, 5)}
    stresses = {mode: [atoms.get_stress() / units.GPa for atoms in both] for mode, both in ends.items()}
    along = (ends[0][0].cell[0, 0] - ends[0][1].cell[0, 0]) / (0.5 * (ends[0][0].cell[0, 0] + ends[0][1].cell[0, 0]))
    sheared = [atoms.cell[2, 1] / atoms.cell[2, 2] for atoms in ends[5]]  # yz, engineering
    difference_of = {mode: both[0] - both[1] for mode, both in stresses.items()}
    return {"C11": difference_of[0][0] / along, "C12": difference_of[0][1] / along, "C44": difference_of[5][3] / (sheared[0] - sheared[1])}


def lattice(calculator: RACECalculator) -> tuple[float, float]:
    """Where the energies of the members have their minimum: mean and standard deviation, Å."""
    grid = np.linspace(5.40, 5.54, 8)
    raw = calculator.raw_predictions([bulk("Si", a=float(a)) for a in grid])
    energies = np.concatenate([p.energies_members for p in raw], axis=1)
    minima = []
    for one in energies:
        roots = np.polyder(np.polynomial.Polynomial.fit(grid, one, 4).convert().coef[::-1])
        real = np.roots(roots).real[np.abs(np.roots(roots).imag) < 1e-9]
        minima.append(real[np.argmin(np.abs(real - 5.47))])
    return float(np.mean(minima)), float(np.std(minima))


def crystal_of(calculator: RACECalculator, data: Path) -> dict[str, float | str]:
    atoms = bulk("Si", a=5.47)
    atoms.calc = calculator
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4)
    a, spread = lattice(calculator)
    found: dict[str, float | str] = {
        "lattice constant, Å": f"{a:.4f} ± {BAR * spread:.4f} (DFT {read(data / 'Si_elastic.xyz', 54).cell[0, 0] / 2:.4f})"
    }
    constants, dft = elastic_constants(calculator, atoms), dft_constants(data)
    for name, (i, j) in {"C11": (0, 0), "C12": (0, 1), "C44": (3, 3)}.items():
        told = {kind: getattr(constants, kind) for kind in ("clamped", "relaxed")}
        value, bar = {k: e.value[i, j] / units.GPa for k, e in told.items()}, {k: BAR * e.std[i, j] / units.GPa for k, e in told.items()}
        inside_bar = abs(value["clamped"] - dft[name]) <= bar["clamped"]
        found[f"{name}, GPa, as the DFT has it"] = (
            f"{value['clamped']:.1f} ± {bar['clamped']:.1f} ({100 * bar['clamped'] / value['clamped']:.1f} %), DFT {dft[name]:.1f}: "
            f"{'inside' if inside_bar else 'outside'}"
        )
        found[f"{name}, GPa, relaxed"] = f"{value['relaxed']:.1f} ± {bar['relaxed']:.1f}"
    whole = bulk("Si", a=2 ** (2 / 3) * atoms.cell.volume ** (1 / 3), cubic=True) * (2, 2, 2)
    hole = vacancy(whole.copy())
    hole.calc = calculator
    hole.rattle(0.05, seed=0)
    FIRE(hole, logfile=None).run(fmax=0.01, steps=500)
    formed = difference(calculator, whole, hole, times=63 / 64)
    found["vacancy, eV"] = f"{formed.value:.2f} ± {BAR * formed.std:.2f}"
    return found


def flagged(calculator: RACECalculator, atoms: Atoms) -> str:
    """Which scores of the default monitor are above their thresholds."""
    prediction, thresholds = calculator.prediction(atoms), calculator.thresholds
    scores = all_scores(prediction, [atoms])
    above = {name: float(scores[name][0][0]) / thresholds[name] for name in watched(scores, thresholds)}
    told = [f"{name} {ratio:.1f}" for name, ratio in above.items() if not ratio <= 1.0]
    return ", ".join(told) or f"nothing (largest {max(above.values()):.2f})"


def compression(calculator: RACECalculator) -> dict[str, str]:
    found = {}
    for share in (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6):
        atoms = bulk("Si", a=5.4685 * share ** (1 / 3), cubic=True) * (2, 2, 2)
        found[f"V/V0 {share:.2f}: flagged (times its threshold)"] = flagged(calculator, atoms)
    return found


def phases(calculator: RACECalculator) -> dict[str, str]:
    found = {}
    for name, made in PHASES.items():
        atoms = made()
        atoms.calc = calculator
        first = flagged(calculator, atoms)
        optimiser = BFGS(FrechetCellFilter(atoms), logfile=None)
        seen = 0

        def note(record) -> None:
            nonlocal seen
            seen += bool(record.decision.violations)

        UncertaintyMonitor(optimiser, flagged=None, callback=note)
        try:
            optimiser.run(fmax=0.02, steps=200)
            end = f"{flagged(calculator, atoms)}; V {atoms.cell.volume / len(atoms):.2f} Å³/atom"
        except ValueError as error:
            end = f"refused: {str(error)[:60]}"
        found[name] = f"start {first}; {seen} of {optimiser.nsteps + 1} steps; end {end}"
    return found


if __name__ == "__main__":
    given = arguments(__doc__, data=".", model=str(MODEL), out="held_back.xyz", only="errors,intervals,crystal,compression,phases")
    data, calculator = Path(given.data), RACECalculator(given.model, "cpu", members=True)
    sections = {
        "errors": lambda: errors(calculator, data),
        "intervals": lambda: intervals(calculator, data),
        "crystal": lambda: crystal_of(calculator, data),
        "compression": lambda: compression(calculator),
        "phases": lambda: phases(calculator),
        "held-back": lambda: held_back(calculator, data, Path(given.out)),
    }
    report(given, {key: value for name in given.only.split(",") for key, value in sections[name]().items()})
