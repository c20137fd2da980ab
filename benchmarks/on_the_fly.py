"""From 20 frames of ethanol to stable MD at 300 to 600 K, unattended, with GFN2-xTB as the reference; beside random picking.

    python benchmarks/on_the_fly.py --runs runs/on_the_fly [--picoseconds 200] [--replicas 4]

Start: 16 + 4 frames of MD at 300 K, four members (configs/ethanol_learning.yaml). Then `OnTheFly`: the replicas, together as long as
--picoseconds, are heated from 300 to 600 K in the first half of their time. Afterwards, with independent structures: errors on 500 frames
of MD with GFN2-xTB at 300 and 600 K; MD with the last model, half as long at each temperature, whose every hundredth frame is labelled; the
same MD with the model of the start; and models that learned from random frames of MD with GFN2-xTB at 300 to 600 K. Goes on where it was
stopped; writes `results.json` and `table.md` into --runs. Needs the extra xtb.
"""

import json
from pathlib import Path

import numpy as np
import yaml
from ase import Atoms
from ase.build import molecule
from common import arguments
from runs import counted, finished, minutes, trained

from race_calc import RACECalculator
from race_calc.data.dataset import read_dataset
from race_calc.evaluate.errors import evaluate_dataset
from race_calc.label.file import label_frames
from race_calc.label.methods import Method
from race_calc.label.sampling import Plan, sample
from race_calc.learning.budget import Budget
from race_calc.learning.config import ExplorationConfig
from race_calc.learning.continual import RACELearner
from race_calc.learning.exploration import replicas
from race_calc.learning.on_the_fly import OnTheFly
from race_calc.model.hardware import keep_freed_memory
from race_calc.train.config import parse_config

BASE = Path(__file__).parent / "configs" / "ethanol_learning.yaml"
METHOD = Method("gfn2-xtb")
MOLECULE = molecule("CH3CH2OH")
SAMPLES = {  # file → temperatures in K, frames, seed
    "start": ((300.0,), 20, 0),
    "test-300": ((300.0,), 500, 10),
    "test-600": ((600.0,), 500, 11),
    "random": ((300.0, 450.0, 600.0), 900, 12),
}
EVERY = 100  # steps from one frame of the MD afterwards to the next that is labelled
BOND = 0.5  # share of its length by which a bond may change
RANDOM = (1, 2, 3)  # times the labels that were bought


def made(name: str, runs: Path) -> Path:
    """The labelled frames of a sample."""
    path, (temperatures, frames, seed) = runs / "data" / f"{name}.xyz", SAMPLES[name]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        journal = path.with_suffix(".sampling")
        found = sample([MOLECULE], Plan(temperatures, frames, seed), METHOD, journal, 1)
        order = np.random.default_rng(seed).permutation(frames) if name == "random" else range(frames)
        label_frames([found[i] for i in order], path, METHOD, 1)
        journal.unlink()
    return path


def started(runs: Path) -> Path:
    return finished("start", BASE, made("start", runs).parent, runs)


def learned(runs: Path, exploration: ExplorationConfig) -> dict:
    """The run that learns; what it used, and the folder of its last model."""
    run = OnTheFly(
        replicas([MOLECULE], exploration),
        METHOD,
        RACELearner(started(runs), runs / "data"),
        runs / "learned",
        budget=Budget(labels=300),
        report=told,
    )
    counted(runs / "learned", lambda: run.run(exploration.steps))
    done = run.run(exploration.steps)  # tells once more how it ended
    rounds = [line for line in run.history if line["event"] == "round"]
    between = [line["seconds"]["choose"] + line["seconds"]["go_on"] for line in rounds] or [0.0]
    return {
        "reason": done.reason,
        "labels": done.labels,
        "rounds": done.rounds,
        "halts": len(run.history) - len(rounds),
        "model": str(done.folder or started(runs)),
        "cpu_minutes": minutes(runs / "learned"),
        "seconds_learning": sum(line["seconds"]["learn"] for line in rounds),
        "seconds_labelling": sum(line["seconds"]["label"] for line in rounds),
        "seconds_of_a_round_besides": [float(np.median(between)), max(between)],
    }


def told(event: str, content: dict) -> None:
    if event != "turn" or content["replica"] == 0:
        print(event, json.dumps(content), flush=True)


def errors(model: Path, runs: Path) -> dict:
    """RMSE of forces, meV/Å, and of energies, meV, by temperature."""
    found, potential = {}, RACECalculator(model, "cpu", calibrated=False)
    for temperature in ("300", "600"):
        evaluation = evaluate_dataset(potential, read_dataset(made(f"test-{temperature}", runs)))
        found |= {f"F {temperature}": 1e3 * evaluation.forces.rmse, f"E {temperature}": 1e3 * evaluation.energy.rmse}
    return found


def stable(model: Path, runs: Path, name: str, exploration: ExplorationConfig, known: float) -> dict:
    """MD with one model at each temperature: how long it lasts, and its errors."""
    potential, found, bonds = RACECalculator(model, "cpu"), {}, _bonds(MOLECULE)
    for temperature in (300.0, 600.0):
        steps = exploration.steps * exploration.replicas // 2
        plain = at_one_temperature(exploration, temperature, steps)
        dynamics = replicas([MOLECULE], plain)[0]
        dynamics.atoms.calc = potential
        frames, kelvins, broken = list[Atoms](), list[float](), 0
        while dynamics.nsteps < steps and not broken:
            dynamics.run(EVERY)
            frames.append(dynamics.atoms.copy())
            kelvins.append(dynamics.atoms.get_temperature())
            lengths = dynamics.atoms.get_all_distances()[bonds]
            broken = dynamics.nsteps if (np.abs(lengths / MOLECULE.get_all_distances()[bonds] - 1) > BOND).any() else 0
        path = runs / "data" / f"after-{name}-{temperature:.0f}-{steps}-{potential.model_hash[:8]}.xyz"
        if not path.exists():
            label_frames(frames, path, METHOD, 1)
        data = read_dataset(path)
        rmse = [1e3 * evaluate_dataset(potential, data.subset([i])).forces.rmse for i in range(len(data))]
        found[f"{temperature:.0f}"] = {
            "ps": dynamics.nsteps * plain.timestep / 1000,
            "bond_broken_at": broken,
            "temperature": float(np.mean(kelvins)),
            "F": float(np.sqrt(np.mean(np.square(rmse)))),
            "worst F": max(rmse),
            "frames": len(rmse),
            "beyond three times the known": int(sum(r > 3 * known for r in rmse)),
        }
    return found


def at_one_temperature(exploration: ExplorationConfig, temperature: float, steps: int) -> ExplorationConfig:
    """One replica at one temperature, with other random numbers."""
    changes = {"replicas": 1, "temperatures": [temperature], "picoseconds": steps * exploration.timestep / 1000, "seed": 77}
    return exploration.model_copy(update=changes)


def _bonds(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    close = np.triu(atoms.get_all_distances() < 1.7, 1)
    hydrogen = np.outer(atoms.numbers == 1, atoms.numbers == 1)
    return np.nonzero(close & ~hydrogen)


def by_chance(labels: int, runs: Path) -> Path:
    """A model trained from the start on the 20 frames and so many random ones, a fifth of them held back as in a lesson."""
    folder, held = runs / f"random-{labels}", labels // 5
    made("random", runs)
    content = yaml.safe_load(BASE.read_text())
    content["data"] = {
        "train": ["start.xyz@:16", f"random.xyz@:{labels - held}"],
        "validation": ["start.xyz@16:", *([f"random.xyz@{labels - held}:{labels}"] if held else [])],
    }
    if not (folder / "weights.safetensors").exists():
        counted(folder, lambda: trained(folder.name, parse_config(content), runs / "data", folder))
    return folder


def table(results: dict) -> str:
    """Errors by who chose the labels, and what MD with the models of the start and of the end did."""
    lines = ["| labels | chosen by | forces 300 / 600 K, meV/Å | energies, meV | CPU minutes |", "|---|---|---|---|---|"]
    for name, row in results["errors"].items():
        forces, energies = (" / ".join(f"{row[f'{kind} {kelvin}']:.1f}" for kelvin in (300, 600)) for kind in "FE")
        lines.append(f"| {row['labels']} | {name} | {forces} | {energies} | {row['cpu']:.1f} |")
    lines += ["", "| MD with | K | ps | bond broken | mean T, K | force RMSE, worst frame | beyond 3 × known |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, found in results["md"].items():
        for kelvin, row in found.items():
            broken = f"step {row['bond_broken_at']}" if row["bond_broken_at"] else "none"
            told = f"{row['F']:.1f}, {row['worst F']:.1f} | {row['beyond three times the known']} of {row['frames']}"
            lines.append(f"| {name} | {kelvin} | {row['ps']:.0f} | {broken} | {row['temperature']:.0f} | {told} |")
    return "\n".join(lines)


if __name__ == "__main__":
    given = arguments(__doc__, runs="runs/on_the_fly", picoseconds=200.0, replicas=4)
    keep_freed_memory()
    runs, share = Path(given.runs), given.picoseconds / given.replicas
    exploration = ExplorationConfig(replicas=given.replicas, picoseconds=share, temperatures=[300.0, 600.0], seed=1)
    results: dict = {"learning": learned(runs, exploration), "errors": {}, "md": {}}
    bought, last = results["learning"]["labels"], Path(results["learning"]["model"])

    def row(name: str, labels: int, model: Path, cpu: float) -> None:
        results["errors"][name] = {"labels": labels, **errors(model, runs), "cpu": cpu}
        (runs / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        print(name, json.dumps(results["errors"][name]), flush=True)

    row("the start", 20, started(runs), minutes(started(runs)))
    row("the run itself", 20 + bought, last, results["learning"]["cpu_minutes"])
    known = results["errors"]["the run itself"]["F 300"]
    for name, model in (("the start", started(runs)), ("the last", last)):
        results["md"][name] = stable(model, runs, name.split()[-1], exploration, known)
    for times in RANDOM:
        folder = by_chance(times * bought, runs)
        row(f"chance, {times} times as many", 20 + times * bought, folder, minutes(folder))
    told_table = table(results)
    (runs / "table.md").write_text(told_table + "\n")
    (runs / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(told_table)
