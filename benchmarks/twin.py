"""Does σ hold at 600 and 1200 K, with enough frames to tell? 3BPA once more, model and references at the level of GFN2-xTB.

    python benchmarks/active_learning.py --data FOLDER_WITH_3BPA --runs runs/active --counts 0     makes the frames
    python benchmarks/twin.py --runs runs/active [--epochs 60] [--json FILE]

Ten members (configs/3bpa.yaml) learn from 450 frames at 300 K and are calibrated with the 50 that validated. Tested on the test frames
at 300 K (500) and on tests and pools at 600 and 1200 K (2,500 each), which neither training nor calibration has seen. Rows as in
model_card.py: errors, σ, % inside 68, 90 and 95 % of energies and of force components, likelihood, Spearman of σ and error; dᵀΣ⁻¹d/3
with intervals over structures.
"""

from pathlib import Path

import torch
import yaml
from ase.io import read
from common import arguments, report
from model_card import row, squares
from runs import counted, minutes, trained

from race_calc.data.dataset import Dataset, dataset_from_atoms, read_dataset
from race_calc.evaluate.assessment import assess
from race_calc.evaluate.calibrate import calibrate
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.model.hardware import keep_freed_memory
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.train.config import parse_config

BASE = Path(__file__).parent / "configs" / "3bpa.yaml"
SETS = {"300 K": ("test-300",), "600 K": ("test-600", "pool-600"), "1200 K": ("test-1200", "pool-1200")}


def twin(runs: Path, epochs: int) -> Path:
    """The trained model; goes on where it was stopped."""
    content = yaml.safe_load(BASE.read_text()) | {"members": 10}
    content["data"] = {"train": "start.xyz@:450", "validation": "start.xyz@450:"}
    content["training"] |= {"epochs": epochs}
    folder = runs / "twin"
    if not (folder / "weights.safetensors").exists():
        counted(folder, lambda: trained("twin", parse_config(content), runs / "data", folder))
    return folder


def joined(runs: Path, files: tuple[str, ...]) -> Dataset:
    return dataset_from_atoms([atoms for name in files for atoms in read(runs / "data" / f"{name}.xyz", ":")])


if __name__ == "__main__":
    given = arguments(__doc__, runs="runs/active", epochs=60)
    keep_freed_memory()
    runs = Path(given.runs)
    folder = twin(runs, given.epochs)
    predictor = StackPredictor(load_stack(load_checkpoint(folder), torch.float64, torch.device("cpu")))
    found, _ = calibrate(predictor, read_dataset(runs / "data" / "start.xyz", "450:"))
    told: dict[str, object] = {"CPU minutes of the training": minutes(folder)}
    print("| data | frames | RMSE E / F | MAE | σ | coverage E | coverage F | NLL | rank (ceiling) |")
    for name, files in SETS.items():
        for kind, calibration in (("before", None), ("calibrated", found)):
            one = assess(predictor, calibration, joined(runs, files))
            print(row(f"{name}, {kind}", one, None))
            print("   dᵀΣ⁻¹d/3:", squares(one), flush=True)
            for quantity, quality in (("E", one.evaluation.energy), ("F", one.evaluation.forces)):
                told[f"{name}, {kind}, {quantity} coverage"] = {str(level): share for level, share in quality.coverage.items()}
    report(given, told)
