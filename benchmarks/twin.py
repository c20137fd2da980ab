"""Does σ hold at 600 and 1200 K, with enough frames to tell? 3BPA once more, model and references at the level of GFN2-xTB.

    python benchmarks/active_learning.py --data FOLDER_WITH_3BPA --runs runs/active --counts 0     makes the frames
    python benchmarks/twin.py --runs runs/active [--epochs 60] [--json FILE]

Ten members (configs/3bpa.yaml) learn from 450 frames at 300 K. They are calibrated with the 50 that validated, which are of the same
trajectories as those of the training, and with 50 of other trajectories at 300 K. Tested on the other test frames at 300 K (450) and
on tests and pools at 600 and 1200 K (2,500 each), which neither training nor calibration has seen. Rows as in model_card.py: errors,
σ, % inside 68, 90 and 95 % of energies and of force components, likelihood, Spearman of σ and error; dᵀΣ⁻¹d/3 with intervals over
structures.
"""

from pathlib import Path

import torch
import yaml
from ase import Atoms
from ase.io import read
from common import arguments, report
from model_card import row, squares
from runs import counted, minutes, trained

from race_calc.data.dataset import dataset_from_atoms, read_dataset
from race_calc.evaluate.assessment import assess
from race_calc.evaluate.calibrate import calibrate
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.model.hardware import keep_freed_memory
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.train.config import parse_config

BASE = Path(__file__).parent / "configs" / "3bpa.yaml"
APART = 10  # every tenth of the test frames at 300 K calibrates


def twin(runs: Path, epochs: int) -> Path:
    """The trained model; goes on where it was stopped."""
    content = yaml.safe_load(BASE.read_text()) | {"members": 10}
    content["data"] = {"train": "start.xyz@:450", "validation": "start.xyz@450:"}
    content["training"] |= {"epochs": epochs}
    folder = runs / "twin"
    if not (folder / "weights.safetensors").exists():
        counted(folder, lambda: trained("twin", parse_config(content), runs / "data", folder))
    return folder


def frames(runs: Path, *files: str) -> list[Atoms]:
    return [atoms for name in files for atoms in read(runs / "data" / f"{name}.xyz", ":")]


if __name__ == "__main__":
    given = arguments(__doc__, runs="runs/active", epochs=60)
    keep_freed_memory()
    runs = Path(given.runs)
    folder = twin(runs, given.epochs)
    predictor = StackPredictor(load_stack(load_checkpoint(folder), torch.float64, torch.device("cpu")))
    known = frames(runs, "test-300")
    sets = {"300 K": [atoms for k, atoms in enumerate(known) if k % APART]}
    sets |= {f"{kelvin} K": frames(runs, f"test-{kelvin}", f"pool-{kelvin}") for kelvin in (600, 1200)}
    ways = {"before": None, "50 that validated": read_dataset(runs / "data" / "start.xyz", "450:")}
    ways["50 of other trajectories"] = dataset_from_atoms(known[::APART])
    calibrations = {way: None if data is None else calibrate(predictor, data)[0] for way, data in ways.items()}
    told: dict[str, object] = {"CPU minutes of the training": minutes(folder)}
    print("| data | frames | RMSE E / F | MAE | σ | coverage E | coverage F | NLL | rank (ceiling) |")
    for name, atoms in sets.items():
        for way, calibration in calibrations.items():
            one = assess(predictor, calibration, dataset_from_atoms(atoms))
            print(row(f"{name}, {way}", one, None))
            print("   dᵀΣ⁻¹d/3:", squares(one), flush=True)
            for quantity, quality in (("E", one.evaluation.energy), ("F", one.evaluation.forces)):
                told[f"{name}, {way}, {quantity} coverage"] = {str(level): share for level, share in quality.coverage.items()}
    report(given, told)
