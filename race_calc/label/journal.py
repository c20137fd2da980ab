"""What is labelled already, a line for each frame: a killed process loses the frame that it was at, and no other."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from race_calc.data.files import append_durably, check_regular, parse_json, write_atomically

KIND, VERSION = "race_calc journal of labels", 1


@dataclass(frozen=True)
class Journal:
    """A file with a line of JSON that says what the work is, and one for each piece that is done."""

    path: Path
    task: dict[str, Any]

    def begin(self) -> dict[int, dict[str, Any]]:
        """The lines that are there by the number of their piece; what is damaged or half-written, and all after it, is removed. A
        new file where there is none.

        Raises ValueError for the journal of another task.
        """
        first = {"format": KIND, "version": VERSION, **self.task}
        if not os.path.lexists(self.path):
            write_atomically(self.path, _line(first))
            return {}
        check_regular(self.path)
        head, *rest = self.path.read_bytes().split(b"\n")
        try:
            same = parse_json(head, self.path, KIND, VERSION) == first
        except ValueError as error:
            raise ValueError(f"{error}; or delete it, to begin the labels anew") from None
        if not same:
            raise ValueError(
                f"{self.path} belongs to other structures, other settings, another method or another version of its program: "
                "give another --out, or delete that file to begin anew"
            )
        done, kept = {}, [head]
        for line in rest[:-1]:  # what is after the last line break was not written to its end
            try:
                entry = json.loads(line)
                done[int(entry.pop("piece"))] = entry
            except (ValueError, KeyError, TypeError):
                break  # a disk that lost power: what is after it is done again
            kept.append(line)
        if kept != [head, *rest[:-1]] or rest[-1:] != [b""]:
            write_atomically(self.path, b"\n".join(kept) + b"\n")
        return done

    def append(self, piece: int, entry: dict[str, Any]) -> None:
        """On the disk when this returns."""
        append_durably(self.path, _line({"piece": piece, **entry}))


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def hash_of(frames: Sequence[Atoms]) -> str:
    """sha256 (hex) of elements, positions, cells, boundaries, initial charges and moments, bit by bit, in order."""
    digest = hashlib.sha256()
    for atoms in frames:
        for values, kind in ((len(atoms), "<i8"), (atoms.numbers, "<i8"), (atoms.pbc, "u1"), (atoms.cell.array, "<f8")):
            digest.update(np.asarray(values, dtype=kind).tobytes())
        for values in (atoms.positions, atoms.get_initial_charges(), atoms.get_initial_magnetic_moments()):
            digest.update(np.asarray(values, dtype="<f8").tobytes())
    return digest.hexdigest()
