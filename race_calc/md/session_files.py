"""The folder of a run of MD: files that grow, and the state on disk from which a run goes on. Uses ASE."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ase import Atoms

from race_calc.data.files import write_atomically
from race_calc.data.hashes import geometry_hash

TRAJECTORY, LOG, FLAGGED, STATE = "trajectory.xyz", "monitor.jsonl", "flagged.xyz", "state.json"
GROWING = (TRAJECTORY, LOG, FLAGGED)
LOCK = "run.lock"  # of `race_calc.data.lock`: one process a folder
ANOTHER = "take another folder, or remove {what} and start anew"


def write_state(out: Path, content: Mapping[str, Any]) -> None:
    """With the sizes of the growing files."""
    sizes = {name: (out / name).stat().st_size if (out / name).exists() else 0 for name in GROWING}
    write_atomically(out / STATE, (json.dumps({**content, "sizes": sizes}) + "\n").encode())


def read_state(out: Path, settings: Mapping[str, Any], origin: Mapping[str, Any], atoms: Atoms) -> dict[str, Any] | None:
    """The last state on disk, after what was written since was cut off; None for a folder that holds no run.

    settings: of the run that is to go on; origin: model and start structure; atoms: at the start of the run, or where it is now. Raises
    ValueError for a run with others, a damaged state, files that lost something since, and a folder with such files of no run.
    """
    if not (out / STATE).exists():
        if strange := [name for name in GROWING if (out / name).exists() and (out / name).stat().st_size]:
            raise ValueError(f"{out} has {', '.join(strange)} of something else: {ANOTHER.format(what='them')}")
        return None
    try:
        state: dict[str, Any] = json.loads((out / STATE).read_text(encoding="utf-8"))
        before, began = state["session"], state.setdefault("origin", dict(origin))  # runs of earlier releases do not tell
        now = Atoms(state["now"]["atoms.numbers"], state["now"]["atoms.positions"], cell=state["now"]["atoms.cell"], pbc=atoms.pbc)
        sizes = {name: int(state["sizes"][name]) for name in GROWING}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{out / STATE} is damaged ({error}): {ANOTHER.format(what='it')}") from None
    ramp = settings["end"] != settings["temperature"]  # more steps would be another ramp from the start
    other = [name for name, value in settings.items() if before.get(name) != value and (ramp or name != "steps")]
    here = {"start structure": began.get("start structure")} if geometry_hash(now) == geometry_hash(atoms) else {}
    other += [name for name, value in ({**origin} | here).items() if began.get(name, value) != value]
    if other:
        why = " (a ramp of the temperature cannot become longer)" if other == ["steps"] else ""
        raise ValueError(f"{out} holds a run with another {', '.join(other)}{why}: give the same to go on, or another folder")
    for name, size in sizes.items():
        _cut(out / name, size)
    return state


def _cut(path: Path, size: int) -> None:
    """Drop what was written after the state that a run goes on from."""
    now = path.stat().st_size if path.exists() else 0
    if now < size:
        raise ValueError(f"{path} is shorter than when the state of the run was written: {ANOTHER.format(what=path.parent)}")
    if now > size:
        os.truncate(path, size)
