"""Fulvene, S0 and S1: states on one trunk against a model for each, errors near the crossing, and what the gap's σ tells.

    python benchmarks/fulvene.py --data FOLDER_WITH_FULVENE --runs runs/fulvene [--json FILE]

Trains what is not there yet (configs/fulvene.yaml; "separate": the same model for each state, as the paper does it), resumes what was
interrupted. Test: trajectory 6, 241 frames, of which the training has seen none. Tables in the units of the paper's Table 2: kcal/mol.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from common import arguments, interleaved, report
from runs import counted, minutes, trained
from sklearn.metrics import roc_auc_score

from race_calc import RACECalculator
from race_calc.data.dataset import Dataset, read_dataset
from race_calc.data.graph import from_atoms
from race_calc.data.npz import KCAL_PER_MOL
from race_calc.model.hardware import keep_freed_memory
from race_calc.train.config import parse_config
from race_calc.uncertainty.prediction import Prediction

BASE = Path(__file__).parent / "configs" / "fulvene.yaml"
TEST = "1205:1446"
STATES = ("S0", "S1")
NEAR = 0.5  # eV


@dataclass(frozen=True)
class Found:
    """Of one state, every member: energies (M, B) eV, forces (M, N, 3) eV/Å."""

    energy: np.ndarray
    forces: np.ndarray


def configuration(state: str | None) -> dict:
    """Of the shared trunk, or of a model of one state."""
    content = yaml.safe_load(BASE.read_text())
    if state is not None:
        del content["model"]["states"], content["model"]["scalars"]
        content["data"]["keys"] = {"energy": f"energy_{state}", "forces": f"forces_{state}"}
    return content


def made(state: str | None, data: Path, runs: Path) -> Path:
    """The folder of a finished model."""
    folder = runs / (state or "shared")
    if not (folder / "weights.safetensors").exists():
        counted(folder, lambda: trained(folder.name, parse_config(configuration(state)), data, folder))
    return folder


def of_members(predictions: list[Prediction]) -> Found:
    energies, forces = zip(*((p.energies_members, p.forces_members) for p in predictions))
    return Found(np.concatenate(energies, axis=1), np.concatenate(forces, axis=1))


def mae(found: Found, labels: tuple[np.ndarray, np.ndarray], frames: np.ndarray, single: bool) -> tuple[float, float]:
    """MAE of energies and forces in kcal/mol and kcal/mol/Å, of single members, their mean, or of the mean of the members."""
    atoms = np.repeat(frames, len(labels[1]) // len(frames))
    rows = (found.energy, found.forces) if single else (found.energy.mean(0)[None], found.forces.mean(0)[None])
    return tuple(float(np.abs(row - label)[:, chosen].mean() / KCAL_PER_MOL) for row, label, chosen in zip(rows, labels, (frames, atoms)))  # type: ignore[return-value]


def line(name: str, found: dict[str, Found], labels: dict, frames: np.ndarray, single: bool) -> tuple[str, dict[str, float]]:
    values = {state: mae(found[state], labels[state], frames, single) for state in STATES}
    numbers = {f"{name}, {state} {kind}": value for state in STATES for kind, value in zip("EF", values[state])}
    return f"| {name} | {' | '.join(f'{energy:.2f} | {force:.2f}' for energy, force in values.values())} |", numbers


def seen(test: Dataset, shared: RACECalculator, alone: dict[str, RACECalculator]) -> dict[str, list]:
    """Predictions of every frame: "shared" of all surfaces, each state alone, and "active" of S1 with its gap."""
    found: dict[str, list] = {"shared": [], "active": [], **{state: [] for state in STATES}}
    for atoms in test.structures:
        found["shared"].append(shared.states(atoms))
        found["active"].append(shared.prediction(atoms))
        for state in STATES:
            found[state] += alone[state].raw_predictions([atoms])
    return found


if __name__ == "__main__":
    given = arguments(__doc__, data=".", runs="runs/fulvene", rounds=30)
    keep_freed_memory()
    data, runs = Path(given.data), Path(given.runs)
    shared = RACECalculator(made(None, data, runs), state="S1", calibrated=False)
    alone = {state: RACECalculator(made(state, data, runs)) for state in STATES}
    test = read_dataset(data / "fulvene_dev.npz", TEST)
    all_of = {k: np.array([atoms.info[k] for atoms in test.structures]) for k in ("energy_S0", "energy_S1", "h01_squared")}
    forces = {state: np.concatenate([atoms.arrays[f"forces_{state}"] for atoms in test.structures]) for state in STATES}
    labels = {state: (all_of[f"energy_{state}"], forces[state]) for state in STATES}
    found = seen(test, shared, alone)
    rows = {
        "separate": {state: of_members(found[state]) for state in STATES},
        "shared trunk": {state: of_members([each[k] for each in found["shared"]]) for k, state in enumerate(STATES)},
    }
    gap = all_of["energy_S1"] - all_of["energy_S0"]
    results: dict[str, object] = {}
    for title, frames in (("all", np.ones(len(gap), bool)), (f"gap < {NEAR} eV", gap < NEAR)):
        print(f"\n{title}: {frames.sum()} frames\n\n| kcal/mol, kcal/mol/Å | S0 E | F | S1 E | F |\n|---|---|---|---|---|")
        for name, of_states in rows.items():
            for single in (True, False):
                text, numbers = line(f"{name}, {'one member' if single else 'ensemble'}", of_states, labels, frames, single)
                print(text)
                results |= {f"{title}, {key}": value for key, value in numbers.items()}
    for state in STATES:
        rms = np.sqrt((forces[state] ** 2).mean())
        error = np.abs(rows["shared trunk"][state].forces.mean(0) - forces[state]).mean()
        results[f"{state}: force MAE over RMS of the labels, %"] = 100 * error / rms
    for name, of_states in rows.items():
        members = of_states["S1"].energy - of_states["S0"].energy
        results[f"{name}: MAE of the gap, eV"] = np.abs(members.mean(0) - gap).mean()
        results[f"{name}: MAE of the squared gap, eV²"] = np.abs(members.mean(0) ** 2 - gap**2).mean()
    error = np.abs((rows["shared trunk"]["S1"].energy - rows["shared trunk"]["S0"].energy).mean(0) - gap)
    sigma = {part: np.array([p.value(f"gap_uncertainty{part}")[0] for p in found["active"]]) for part in ("", "_epistemic")}
    for part, values in sigma.items():
        results[f"AUROC of gap_uncertainty{part}, error above its 95th percentile"] = roc_auc_score(
            error > np.quantile(error, 0.95), values
        )
    scalar = np.array([each[2].energy[0] for each in found["shared"]])
    results["|h01|²: MAE over the mean of the labels, %"] = (
        100 * np.abs(scalar - all_of["h01_squared"]).mean() / all_of["h01_squared"].mean()
    )
    graph = from_atoms(test.structures[0], shared.checkpoint.model.plan.config.cutoff)
    cases = {
        "both states": lambda: shared.posterior.predict_each(graph, scalars=False),
        "one state": lambda: alone["S1"].posterior.predict(graph),
        "S1 with the gap": lambda: shared.posterior.predict(graph),
    }
    times = interleaved(cases, given.rounds)
    results |= {f"step of {name} over one state": value / times["one state"] for name, value in times.items() if name != "one state"}
    results["CPU minutes"] = {name: minutes(runs / name) for name in ("shared", *STATES)}
    report(given, results)
