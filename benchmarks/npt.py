"""Constant pressure, watched: what the default monitor makes of a run with a barostat, solid, liquid, heated, or with a poor model.

    python benchmarks/npt.py --model models/silicon --start solid --temperature 600
    python benchmarks/npt.py --model models/silicon --start liquid --temperature 2530
    python benchmarks/npt.py --model models/silicon --start solid --temperature 300 --to 4000
    race-calc train benchmarks/configs/silicon_poor.yaml --data FOLDER_OF_mlearn --out runs/silicon-poor
    race-calc calibrate runs/silicon-poor FOLDER_OF_mlearn/Si_vacancy_liquid.xyz
    python benchmarks/npt.py --model runs/silicon-poor --start liquid --temperature 2530

64 atoms, IsotropicMTKNPT at 0 GPa, 2 fs a step, the criteria of `UncertaintyMonitor` as they are (no guard of the volume). V0: at the
start. "solid": diamond at 5.47 Å; "liquid": models/silicon/liquid.xyz; or a file.
"""

from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.io import read
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from common import arguments, report
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from race_calc import RACECalculator, UncertaintyMonitor
from race_calc.report.figure import BLUE, VERMILION
from race_calc.uncertainty.decisions import watched
from race_calc.uncertainty.scores import SCORES

LIQUID = Path(__file__).resolve().parents[1] / "models" / "silicon" / "liquid.xyz"
PLATEAUS = 20  # temperatures, where it is raised
TOLD = 50  # steps in one go


def start(name: str) -> Atoms:
    atoms = bulk("Si", a=5.47, cubic=True) * (2, 2, 2) if name == "solid" else read(LIQUID if name == "liquid" else name)
    atoms.calc = None
    return atoms


def tetrahedral(atoms: Atoms) -> float:
    """Order of the four nearest neighbours, 1 in diamond, about 0.4 in the liquid (Errington & Debenedetti, Nature 409, 318, 2001)."""
    vectors = atoms.get_all_distances(mic=True, vector=True)
    distance = np.linalg.norm(vectors, axis=2) + np.where(np.eye(len(atoms)), np.inf, 0.0)
    found = []
    for i, near in enumerate(np.argsort(distance, axis=1)[:, :4]):
        unit = vectors[i, near] / distance[i, near][:, None]
        cosines = (unit @ unit.T)[np.triu_indices(4, 1)]
        found.append(1 - 3 / 8 * np.sum((cosines + 1 / 3) ** 2))
    return float(np.mean(found))


given = arguments(__doc__, model=str(LIQUID.parent), start="solid", temperature=600.0, to=0.0, ps=20.0, timestep=2.0, seed=0, figure="")
atoms = start(given.start)
atoms.calc = RACECalculator(given.model, "cpu")
rng = np.random.default_rng(given.seed)
MaxwellBoltzmannDistribution(atoms, temperature_K=given.temperature, rng=rng)
Stationary(atoms)
step = given.timestep * units.fs
steps, volume = round(1e3 * given.ps / given.timestep), atoms.cell.volume
plateaus = np.linspace(given.temperature, given.to, PLATEAUS) if given.to else np.array([given.temperature])
ratios, volumes, heat, order, done = {}, [], [], [], 0
names = watched(atoms.calc.thresholds, atoms.calc.thresholds)


def note(record) -> None:
    volumes.append(atoms.cell.volume / volume)
    heat.append(atoms.get_temperature())
    for name in names:
        ratios.setdefault(name, []).append(record.scores[name] / atoms.calc.thresholds[name])


for temperature in plateaus:
    dynamics = IsotropicMTKNPT(atoms, step, temperature, 0.0, tdamp=100 * step, pdamp=1000 * step)
    monitor = UncertaintyMonitor(dynamics, flagged=None, callback=note)
    for _ in range(max(1, steps // len(plateaus) // TOLD)):
        dynamics.run(TOLD)
        order.append(tetrahedral(atoms))
        if monitor.halt_reason is not None:
            break
    done += dynamics.nsteps
    now = f"{atoms.get_temperature():.0f} K, V/V0 {volumes[-1]:.3f}, tetrahedral order {order[-1]:.2f}"
    print(f"{len(volumes)} checks, {temperature:.0f} K: {now}", flush=True)
    if monitor.halt_reason is not None:
        break
half = len(volumes) // 2
found = {
    "picoseconds": done * given.timestep / 1e3,
    "halted by": str(monitor.halt_reason),
    "V/V0 at the end": volumes[-1],
    "V/V0, smallest to largest": f"{min(volumes):.3f} to {max(volumes):.3f}",
    "mean temperature of the second half, K": float(np.mean(heat[half:])),
    "mean V/V0 of the second half": float(np.mean(volumes[half:])),
    "tetrahedral order at the end": order[-1],
}
for name, values in ratios.items():
    above = ~(np.array(values) <= 1.0)
    found[f"{name}: largest / threshold"] = float(max(values))
    found[f"{name}: above, % of checks"] = 100 * float(above.mean())
    stretches = np.diff(np.flatnonzero(np.diff(np.concatenate([[False], above, [False]]))))[::2]
    found[f"{name}: most checks above in a row"] = int(stretches.max(initial=0))
    if above.any():
        at = int(np.argmax(above))
        found[f"{name}: first above"] = f"{at * given.timestep / 1e3:.2f} ps, V/V0 {volumes[at]:.3f}"
report(given, found)
if given.figure:
    time = np.arange(len(volumes)) * given.timestep / 1e3
    figure = Figure(figsize=(7.2, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    top, middle, bottom = figure.subplots(3, 1, sharex=True)
    top.plot(time, heat, color=BLUE, linewidth=0.6)
    top.set_ylabel("temperature, K")
    middle.plot(time, volumes, color=BLUE)
    middle.set_ylabel("V/V0")
    twin = middle.twinx()
    twin.plot(np.linspace(time[0], time[-1], len(order)), order, color=VERMILION, linewidth=0.8)
    twin.set_ylabel("tetrahedral order", color=VERMILION)
    for name, values in ratios.items():
        bottom.plot(time, values, linewidth=0.6, label=SCORES[name].label)
    bottom.axhline(1.0, color="black", linewidth=0.8)
    bottom.set(xlabel="time, ps", ylabel="score / threshold", yscale="log", ylim=(1e-3, None))
    bottom.legend(fontsize=8, ncols=2)
    figure.savefig(given.figure, dpi=150)
