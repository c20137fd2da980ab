"""Structures that are labelled elsewhere: a folder with a file for each and a table, and the results back from it. Uses ASE."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

from race_calc.data.dataset import read_structures
from race_calc.data.files import shortened, write_atomically
from race_calc.label.frame import bare, computed, labelled

TABLE = "table.csv"
COLUMNS = ("frame", "structure", "result")
SAME = 0.01  # Å; programs round positions in their output
LABELS = "elsewhere"  # info["labels"] of a frame that comes back


@dataclass(frozen=True)
class Collected:
    """Frames with labels in their order; number and reason of those whose result cannot be used; how many have none yet."""

    frames: tuple[Atoms, ...]
    failed: tuple[tuple[int, str], ...]
    missing: int


def export(frames: Sequence[Atoms], folder: Path) -> Path:
    """Write a file for each structure, and a table whose column `result` is to be filled; the path of the table.

    Raises FileExistsError where the folder holds something, ValueError for no structures.
    """
    if not frames:
        raise ValueError("there are no structures to label")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there already: give another folder, or delete it")
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, atoms in enumerate(frames):
        name = f"{i:05d}.xyz"
        write(folder / name, bare(atoms), format="extxyz")
        rows.append((i, name, ""))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    write_atomically(folder / TABLE, text.getvalue().encode())
    return folder / TABLE


def collect(frames: Sequence[Atoms], folder: Path) -> Collected:
    """The structures with what the table names as results: files of any format that ASE reads, relative to the folder; the last image.

    Raises FileNotFoundError without a table, ValueError for a table of other structures.
    """
    rows = _rows(folder / TABLE, len(frames))
    found, failed = [], []
    for i, result in rows.items():
        try:
            found.append(_with_labels(frames[i], folder / result, result))
        except Exception as error:  # whatever ASE's readers meet
            failed.append((i, shortened(f"{type(error).__name__}: {error}")))
    return Collected(tuple(found), tuple(failed), len(frames) - len(rows))


def _rows(path: Path, count: int) -> dict[int, str]:
    """Frame → result, of those that have one."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give the folder that --export wrote")
    with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a mark at the start
        table = list(csv.DictReader(file))
    if not table or not set(COLUMNS) <= set(table[0]):
        raise ValueError(f"{path} lacks the columns {', '.join(COLUMNS)}: keep its first line as --export wrote it")
    try:
        rows = {int(row["frame"]): (row["result"] or "").strip() for row in table}
    except ValueError as error:
        raise ValueError(f"{path}: a frame is no number ({error}): keep that column as --export wrote it") from error
    if len(rows) < len(table):
        raise ValueError(f"{path} names a frame twice: leave one row for each")
    outside = [i for i in rows if not 0 <= i < count]
    if outside:
        raise ValueError(f"{path} names frame {outside[0]}, the file has {count}: give the file that was exported")
    return {i: result for i, result in sorted(rows.items()) if result}


def _with_labels(atoms: Atoms, path: Path, result: str) -> Atoms:
    """Raises ValueError where the result is of another structure, or has no energy or forces."""
    (told,) = read_structures(path, -1)
    if len(told) != len(atoms) or (told.numbers != atoms.numbers).any():
        raise ValueError(f"{result} is {told.symbols}, the structure {atoms.symbols}: the atoms must be the same, in the same order")
    if atoms.pbc.any() and ((told.pbc != atoms.pbc).any() or not np.abs(told.cell.array - atoms.cell.array).max() <= SAME):
        raise ValueError(f"{result} has another cell, or other periodic directions: label the structure as it is")
    off = _furthest(told.positions - atoms.positions, atoms)
    if not off <= SAME:
        raise ValueError(f"an atom of {result} is {off:.2f} Å from where it was: label the structure as it is")
    told.set_constraint()  # forces as they are
    results = computed(told)
    if not atoms.pbc.any():
        results.pop("stress", None)  # of a box around a molecule
    return labelled(atoms, results, {"labels": LABELS, "labels_code": result})


def _furthest(shifts: np.ndarray, atoms: Atoms) -> float:
    """Å, by which an atom moved against the others. Whole cell vectors do not count, nor does a shift of all: some programs centre."""
    moved = shifts - shifts[0]
    if atoms.pbc.any():
        cell = atoms.cell.complete().array
        moved = moved - (np.round(moved @ np.linalg.inv(cell)) * atoms.pbc) @ cell
    return float(np.abs(moved - moved.mean(axis=0)).max())
