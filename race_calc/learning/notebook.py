"""What a learning run has done, on the disk at any moment: one file, replaced as a whole."""

import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from race_calc.data.files import read_json, write_atomically

FILE = "learning.json"
KIND, VERSION = "race_calc learning on the fly", 1
EXPLORE, LEARN = "explore", "learn"  # phases of a round


@dataclass(frozen=True)
class Notebook:
    """number: of the round, from 1. labels: bought, those that failed among them. quiet: steps of all replicas since the last request
    for labels. rejected: lessons in a row that were kept out. model: folder of the last accepted lesson, relative to that of the
    run, None before there is one. reference: name and code of the method that was checked. history: a line for each halt and each round."""

    number: int = 1
    phase: str = EXPLORE
    turn: int = 0
    labels: int = 0
    quiet: int = 0
    rejected: int = 0
    seconds: float = 0.0
    model: str | None = None
    reference: str | None = None
    replicas: tuple[dict[str, Any], ...] = ()
    history: tuple[dict[str, Any], ...] = field(default=())

    def noted(self, **entry: Any) -> "Notebook":
        """With a line of the history, as it is read again."""
        return replace(self, history=(*self.history, json.loads(json.dumps(entry))))

    def write(self, folder: Path) -> None:
        write_atomically(folder / FILE, json.dumps({"format": KIND, "version": VERSION, **vars(self)}).encode())


def read_notebook(folder: Path) -> Notebook | None:
    """None where no run has begun. Raises ValueError for a damaged file and for one of a newer version."""
    path = folder / FILE
    if not path.exists():
        return None
    content = read_json(path, KIND, VERSION)
    try:
        found = {f.name: content[f.name] for f in fields(Notebook)}
    except KeyError as error:
        raise ValueError(f"{path} lacks {error}: it is damaged; begin anew in another folder") from None
    return Notebook(**found | {name: tuple(found[name]) for name in ("replicas", "history")})
