"""The development slice of 3BPA: every fourth hot frame, fixed in dev_split.json. Settings are chosen on it and on the validation
frames; tables and bars are measured on the other frames."""

import json
from pathlib import Path

from race_calc.data.dataset import Dataset, read_dataset

SLICE = json.loads((Path(__file__).parent / "dev_split.json").read_text())["frames"]
VALIDATION = "450:500"  # of train_300K.xyz


def development(data: Path) -> dict[str, Dataset]:
    """Validation frames and development slices of the folder with the 3BPA files."""
    sets = {name: read_dataset(data / f"{name}.xyz").subset(frames) for name, frames in SLICE.items()}
    return {"validation": read_dataset(data / "train_300K.xyz", VALIDATION), **sets}


def test(data: Path) -> dict[str, Dataset]:
    """The frames of the tables: all of id_300K, and the hot frames outside the development slices."""
    sets = {"id_300K": read_dataset(data / "id_300K.xyz")}
    for name, frames in SLICE.items():
        whole = read_dataset(data / f"{name}.xyz")
        sets[name] = whole.subset(sorted(set(range(len(whole))) - set(frames)))
    return sets
