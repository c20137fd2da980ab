"""Copper that learns while it is heated at constant pressure, with stress; ASE's EMT potential is the reference.

    python benchmarks/on_the_fly_metal.py --runs runs/copper [--picoseconds 40] [--replicas 2]

Start: 16 + 4 cells of 32 atoms from MD at 300 K and 0 GPa, four members (configs/copper_learning.yaml). `OnTheFly`: the replicas, together
as long as --picoseconds, are heated from 300 to 1200 K at 0 GPa (LangevinBAOAB, 2 fs) in the first half of their time. Afterwards errors
and volumes on MD with EMT itself, other random numbers, and on MD with the last model. Goes on where it was stopped; writes `results.json`.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.langevinbaoab import LangevinBAOAB
from common import arguments, report
from runs import counted, finished, minutes

from race_calc import OnTheFly, RACECalculator, RACELearner
from race_calc.data.dataset import read_dataset
from race_calc.evaluate.errors import evaluate_dataset
from race_calc.label.file import label_frames
from race_calc.label.given import Given
from race_calc.model.hardware import keep_freed_memory

BASE = Path(__file__).parent / "configs" / "copper_learning.yaml"
TIMESTEP, COLD, HOT = 2.0, 300.0, 1200.0  # fs, K
SPACING, SETTLED = 50, 500  # steps between frames, and before the first
SAMPLES = {"start": (COLD, 20, 0), "test-300": (COLD, 200, 10), "test-1200": (HOT, 200, 11)}  # file → K, frames, seed


def heated(seed: int, kelvin: float, calculator: object, temperature: Callable[[int], float] | None = None) -> LangevinBAOAB:
    """Copper at 0 GPa; `temperature`: of the thermostat by step."""
    atoms, random = bulk("Cu", a=3.61, cubic=True) * 2, np.random.default_rng(seed)
    width = np.sqrt(atoms.get_masses() * units.kB * kelvin)[:, None]
    momenta = width * random.standard_normal((len(atoms), 3))
    atoms.set_momenta(momenta - momenta.mean(axis=0))
    atoms.calc = calculator  # it is asked when the dynamics is made
    step = TIMESTEP * units.fs
    dynamics = LangevinBAOAB(
        atoms, step, temperature_K=kelvin, externalstress=0.0, T_tau=50 * step, P_tau=500 * step, hydrostatic=True, rng=random
    )
    if temperature is not None:
        dynamics.attach(lambda: dynamics.set_temperature(temperature(dynamics.nsteps + 1)))
    return dynamics


def frames_of(dynamics: LangevinBAOAB, count: int) -> list[Atoms]:
    found = []
    dynamics.run(SETTLED)
    for _ in range(count):
        dynamics.run(SPACING)
        found.append(dynamics.atoms.copy())
    return found


def made(name: str, runs: Path) -> Path:
    """The labelled cells of a sample."""
    path, (kelvin, count, seed) = runs / "data" / f"{name}.xyz", SAMPLES[name]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        label_frames(frames_of(heated(seed, kelvin, EMT()), count), path, Given(EMT()), 1)
    return path


def started(runs: Path) -> Path:
    return finished("start", BASE, made("start", runs).parent, runs)


def errors(model: Path, runs: Path) -> dict[str, float]:
    """RMSE of forces (meV/Å) and stresses (MPa) by temperature."""
    found, potential = {}, RACECalculator(model, "cpu", calibrated=False)
    for kelvin in ("300", "1200"):
        evaluation = evaluate_dataset(potential, read_dataset(made(f"test-{kelvin}", runs)))
        stress = 0.0 if evaluation.stress is None else evaluation.stress.rmse
        found |= {f"F {kelvin}": 1e3 * evaluation.forces.rmse, f"stress {kelvin}": 1e3 * stress / units.GPa}
    return found


def volume(calculator: object) -> float:
    """Mean volume per atom (Å³) of MD at 1200 K."""
    return float(np.mean([atoms.cell.volume / len(atoms) for atoms in frames_of(heated(20, HOT, calculator), 100)]))


if __name__ == "__main__":
    given = arguments(__doc__, runs="runs/copper", picoseconds=40.0, replicas=2)
    keep_freed_memory()
    runs, steps = Path(given.runs), round(1000 * given.picoseconds / given.replicas / TIMESTEP)
    ramp = lambda step: float(np.interp(step, (0, steps / 2), (COLD, HOT)))  # noqa: E731
    start = started(runs)
    learner = RACELearner(start, runs / "data")
    run = OnTheFly(
        [heated(100 + k, COLD, learner.potential(None), ramp) for k in range(given.replicas)],
        EMT(),
        learner,
        runs / "learned",
        report=lambda event, content: event == "turn" or print(event, json.dumps(content), flush=True),
    )
    counted(runs / "learned", lambda: run.run(steps))
    done = run.run(steps)  # tells once more how it ended
    last = done.folder or start
    results: dict[str, object] = {
        "reason": done.reason,
        "labels": done.labels,
        "rounds": done.rounds,
        "CPU minutes": minutes(runs / "learned"),
    }
    for name, model in (("start", start), ("last", last)):
        results |= {f"{name}: {quantity}": value for quantity, value in errors(model, runs).items()}
    results |= {"volume per atom at 1200 K, EMT": volume(EMT()), "with the last model": volume(RACECalculator(last, "cpu"))}
    (runs / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    report(given, results)
