"""What ablation.py, mace_training.py and training_curve.py share: the frames, our training for so many CPU minutes, a row of
errors, and the file of results."""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from common import trained
from split import development, test

from race_calc.data.dataset import Dataset
from race_calc.evaluate.errors import evaluate_dataset
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.posterior.stack import StackPosterior

CHOOSE = ("validation", "development 600K", "development 1200K")  # settings are chosen on these, never on the test frames
TEST = ("test 300K", "test 600K", "test 1200K")


def frames(data: Path) -> dict[str, Dataset]:
    """The validation frames, the development slices and the test frames of the folder with the 3BPA files."""
    chosen = {name.replace("ood_", "development "): found for name, found in development(data).items()}
    return chosen | {f"test {name.split('_')[1]}": found for name, found in test(data).items()}


def errors(name: str, forces: float, energy: float) -> dict[str, float]:
    """Entries of a row. ``forces``: RMSE in eV/Å; ``energy``: RMSE in eV."""
    return {f"{name} force RMSE, meV/Å": 1e3 * forces, f"{name} energy RMSE, meV": 1e3 * energy}


def rmse(differences: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(differences))))


def epochs_within(minutes: float, of_one: float, of_start: float = 0.0) -> int:
    """As many epochs as fit ``minutes``, ``of_one`` minutes each, after ``of_start`` minutes; two at least (a stage each)."""
    return max(2, int((minutes - of_start) / of_one))


def epochs_of(minutes: float, trained: Callable[[int], float]) -> int:
    """The same, from trainings of two and of four epochs; `trained`: epochs → minutes."""
    two, four = trained(2), trained(4)
    of_one = (four - two) / 2
    return epochs_within(minutes, of_one, max(0.0, two - 2 * of_one))


def timed(content: dict, epochs: int, data: Path) -> tuple[StackPosterior, float]:
    """Our training of so many epochs, and its CPU minutes with reading the data and writing the model."""
    began = time.process_time()
    posterior = trained(content | {"training": content["training"] | {"epochs": epochs}}, data)
    return posterior, (time.process_time() - began) / 60


def ours(content: dict, minutes: float, data: Path, names: Iterable[str]) -> dict:
    """Epochs, CPU minutes and errors of a training of so many CPU minutes on the sets of these names."""
    epochs = epochs_of(minutes, lambda some: timed(content, some, data)[1])
    posterior, used = timed(content, epochs, data)
    row = {"epochs": epochs, "minutes": used}
    sets = frames(data)
    for name in names:
        found = evaluate_dataset(StackPredictor(posterior), sets[name])
        row |= errors(name, found.forces.rmse, found.energy.rmse)
    return row


def load(path: Path) -> dict[str, dict]:
    return json.loads(path.read_text()) if path.exists() else {}


def add(path: Path, name: str, row: dict) -> None:
    """Write a row beside those that the file holds by now."""
    path.write_text(json.dumps(load(path) | {name: row}, indent=2, ensure_ascii=False) + "\n")


def score(row: dict) -> float:
    """Geometric mean of the force errors on the frames for choosing, meV/Å."""
    return float(np.exp(np.mean([np.log(row[f"{name} force RMSE, meV/Å"]) for name in CHOOSE])))


def best(rows: Iterable[dict], code: str) -> dict[float, dict]:
    """Budget in minutes → the row of this code with the least score, in the order of the budgets."""
    found: dict[float, dict] = {}
    for row in rows:
        if row["code"] == code and (row["budget"] not in found or score(row) < score(found[row["budget"]])):
            found[row["budget"]] = row
    return dict(sorted(found.items()))


def line(name: str, row: dict) -> str:
    """A line of the table: forces and energies of the validation, development and test frames."""
    sets = (*CHOOSE, *TEST)
    forces, energies = (" / ".join(f"{row[f'{k} {kind}']:.1f}" for k in sets) for kind in ("force RMSE, meV/Å", "energy RMSE, meV"))
    return f"| {name} | {row['epochs']} | {row['minutes']:.1f} | {forces} | {energies} |"
