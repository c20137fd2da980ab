"""What a configuration names as data: files, frames of files."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from race_calc.data.dataset import Dataset, read_dataset
from race_calc.data.label_names import LABELS, LabelNames

WITH_FRAMES = re.compile(r"(.+)@(-?\d+|-?\d*:-?\d*(?::-?\d*)?)")  # path@index, as for ASE


def read_sources(folder: Path, sources: str | Sequence[str], names: LabelNames = LABELS) -> Dataset:
    """Labelled structures of one file, or of several one after the other. Paths are relative to `folder`.

    A source is a path, or path@frames with an ASE index, such as "a.xyz@0:450" or "b.xyz@::10"; a file whose name has such an
    end is read whole. Raises FileNotFoundError, and ValueError as `read_dataset` does.
    """
    return joined(read_each(folder, sources, partial(read_dataset, names=names)))


def read_each(folder: Path, sources: str | Sequence[str], read: Callable[[Path, str], Dataset]) -> list[Dataset]:
    """The data set of each source; see `read_sources`. `read`: from path and ASE index."""
    return [read(*_place(folder, one)) for one in as_list(sources)]


def joined(parts: Sequence[Dataset]) -> Dataset:
    """One data set, in their order."""
    if len(parts) == 1:
        return parts[0]
    return Dataset(
        tuple(atoms for part in parts for atoms in part.structures),
        np.concatenate([part.energy for part in parts]),
        tuple(forces for part in parts for forces in part.forces),
        tuple(stress for part in parts for stress in part.stress),
    )


def as_list(sources: str | Sequence[str]) -> list[str]:
    return [sources] if isinstance(sources, str) else list(sources)


def told(sources: str | Sequence[str]) -> str:
    """For messages and cards: "a.xyz, b.xyz@0:450"."""
    return ", ".join(as_list(sources))


def frame_numbers(frames: str, count: int, file: str) -> list[int]:
    """Which of the `count` frames of a file an ASE index such as "::2" means. Raises ValueError for what names none."""
    from ase.io.formats import string2index  # here: see `race_calc.data.dataset`

    try:
        chosen = string2index(frames)
        return list(range(count)[chosen]) if isinstance(chosen, slice) else [range(count)[int(chosen)]]
    except (ValueError, IndexError):
        raise ValueError(
            f"--frames {frames!r} names no frames of {file}, which has {count}: write a number or a slice, such as ::2"
        ) from None


def _place(folder: Path, source: str) -> tuple[Path, str]:
    """Path and ASE index."""
    found = WITH_FRAMES.fullmatch(source)
    if found and not (folder / source).exists():
        return folder / found[1], found[2]
    return folder / source, ":"
