"""A log of the monitor and the frames that were saved with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from race_calc.data.dataset import read_structures
from race_calc.md.log import LoggedRun, read_log

MOST_RUNS, MOST_FRAMES = 3, 12


@dataclass(frozen=True)
class Monitored:
    """runs: of a log; log: its name; frames: id in the viewer → frame, of the runs shown; flagged: the name of the file of frames."""

    runs: Sequence[LoggedRun] = ()
    log: str = ""
    frames: Mapping[str, Atoms] = field(default_factory=dict)
    flagged: str = "flagged.xyz"

    @property
    def shown(self) -> Sequence[LoggedRun]:
        return self.runs[-MOST_RUNS:]


NO_RUN = Monitored()


def monitored(log: Path, flagged: Path | None = None) -> Monitored:
    """`flagged`: the file of frames, looked for beside the log where none is given. Raises as `read_log` and `read_structures` do."""
    run, paths = Monitored(read_log(log), log.name), _candidates(log) if flagged is None else [flagged]
    return replace(run, frames=_saved(paths, run.shown), flagged=paths[0].name) if paths else run


def _candidates(log: Path) -> list[Path]:
    """Where the frames of a log are looked for: flagged.xyz beside it, or one named after it."""
    return [path for path in (log.with_name(f"{log.stem}_flagged.xyz"), log.with_name("flagged.xyz")) if path.is_file()]


def _saved(paths: Sequence[Path], runs: Sequence[LoggedRun]) -> dict[str, Atoms]:
    """The last halting frames and others, evenly picked."""
    named = [run for run in runs if run.run]
    ids, halts = {run.run for run in named}, {key for run in named for _, _, key in halts_of(run)[-(MOST_FRAMES // MOST_RUNS) :]}
    found = [atoms for path in paths for atoms in read_structures(path) if str(atoms.info.get("run")) in ids and "step" in atoms.info]
    keys = [frame_key(str(atoms.info["run"]), int(atoms.info["step"]), atoms.info.get("image")) for atoms in found]
    halting = [i for i, key in enumerate(keys) if key in halts]
    others = [i for i, key in enumerate(keys) if key not in halts]
    room = max(MOST_FRAMES - len(halting), 0)
    even = np.linspace(0, len(others) - 1, min(len(others), room)).astype(int).tolist() if others else []
    return {keys[i]: found[i] for i in sorted({*halting, *(others[k] for k in even)})}


def halts_of(run: LoggedRun) -> list[tuple[int, Mapping[str, Any], str]]:
    """Of each check that ended the run: its number, the violation, the id of the frame."""
    found: list[tuple[int, Mapping[str, Any], str]] = []
    for t, action in enumerate(run.action):
        violation = next((one for one in run.violations[t] if one["action"] == "halt"), None)
        if action == "halt" and violation is not None:
            found.append((t, violation, frame_key(str(run.run), int(run.step[t]), violation.get("image"))))
    return found


def frame_key(run: str, step: int, image: Any = None) -> str:
    return f"{run} {step}" + ("" if image is None else f" image {int(image)}")
