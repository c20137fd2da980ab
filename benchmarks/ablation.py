"""What each choice of the model and its training gives at equal CPU time: one member on 3BPA, on one thread.

    python benchmarks/ablation.py --data FOLDER_WITH_3BPA --json FILE [--minutes 3] [--only "as it is,batch 2"]

Every case is configs/3bpa.yaml with one member and a change. Its epochs are as many as fit the minutes (CPU time, by the time of
an epoch measured before). Errors are those of the 50 validation frames and of the development slices (dev_split.json). Cases that
FILE holds already are left alone. Cases with cheap labels need the extra xtb: `python benchmarks/cheap.py` makes their file.
"""

from pathlib import Path

import torch
import yaml
from ablation_cases import CASES
from common import arguments
from equal_minutes import CHOOSE, add, load, ours

from race_calc.model.hardware import keep_freed_memory

BASE = Path(__file__).parent / "configs" / "3bpa.yaml"


def changed(changes: dict) -> dict:
    """The base for one member, with the changes of a case, a section at a time."""
    content = yaml.safe_load(BASE.read_text()) | {"posterior": "mve", "members": 1}
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    return content


def line(name: str, row: dict) -> str:
    """A line of the table: forces and energies at 300, 600 and 1200 K."""
    forces = " / ".join(f"{row[f'{k} force RMSE, meV/Å']:.1f}" for k in CHOOSE)
    energies = " / ".join(f"{row[f'{k} energy RMSE, meV']:.1f}" for k in CHOOSE)
    return f"| {name} | {row['epochs']} | {forces} | {energies} | {CASES[name].expected} |"


if __name__ == "__main__":
    given = arguments(__doc__, data=".", minutes=3.0, only="")
    if not given.json:
        raise SystemExit("give --json FILE: what is done already is read from it")
    torch.set_num_threads(1)
    keep_freed_memory()
    path = Path(given.json)
    for name in given.only.split(",") if given.only else CASES:
        if name not in load(path):
            add(path, name, ours(changed(CASES[name].changes), given.minutes, Path(given.data), CHOOSE))
        print(line(name, load(path)[name]), flush=True)
