"""QM9 as files that `race-calc train` reads: 130,831 molecules at B3LYP/6-31G(2df,p) (Ramakrishnan et al., Sci. Data 1, 140022, 2014; CC0).

They come with the package qm9pack (MIT). `pip install --no-deps qm9pack` gets it, 104 MB: its tables are read, its code is not run.
"""

import csv
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.io import write

TABLES = ("qm9_part1.csv", "qm9_part2.csv", "qm9_part3.csv")
COUNT = 130_831
EV, NONE = units.Hartree, 1.0
TARGETS = {  # our name → column, factor to the unit of the published tables, kind
    "mu": ("Dipole_debye", NONE, "dipole"),
    "alpha": ("Polarizability_bohr3", NONE, "sum"),
    "homo": ("HOMO_au", EV, "mean"),
    "lumo": ("LUMO_au", EV, "mean"),
    "delta_eps": ("HOMO_LUMO_gap_au", EV, "mean"),
    "r2": ("R2_bohr2", NONE, "extent"),
    "zpve": ("ZPVE_au", EV, "sum"),
    "U0": ("InternalEnergy_0K_au", EV, "sum"),
    "U": ("InternalEnergy_298K_au", EV, "sum"),
    "H": ("Enthalphy_298K_au", EV, "sum"),
    "G": ("GibbsFreeEnergy_298K_au", EV, "sum"),
    "Cv": ("Heatcapacity_Cv_cal_mol_K", NONE, "sum"),
}
PARTS = {"train": 10_000, "validation": 500, "calibration": 1_000, "test": 10_000, "rest": 100_000}  # drawn one after the other
REST = "rest"  # with "train", 110,000 molecules to train on
SEED = 0


def files(folder: Path, full: bool = False) -> dict[str, Path]:
    """The file of each part, written where it is not there yet. `full`: also the rest."""
    parts = {part: size for part, size in PARTS.items() if full or part != REST}
    paths = {part: folder / f"{part}.xyz" for part in parts}
    if not all(path.is_file() for path in paths.values()):
        folder.mkdir(parents=True, exist_ok=True)
        of_row = np.random.default_rng(SEED).permutation(COUNT)[: sum(parts.values())]
        found = {row: molecule for row, molecule in enumerate(_molecules(set(of_row.tolist()))) if molecule is not None}
        for path, rows in zip(paths.values(), np.split(of_row, np.cumsum(list(parts.values()))[:-1])):
            half = path.with_suffix(".part")
            write(half, [found[row] for row in rows], format="extxyz")
            half.replace(path)  # whole or not at all
    return paths


def _molecules(wanted: set[int]) -> Iterator[Atoms | None]:
    """Of every row of the tables, None where it is not wanted."""
    row = 0
    for table in TABLES:
        with (_tables() / table).open(newline="") as file:
            for record in csv.DictReader(file):
                yield _molecule(record) if row in wanted else None
                row += 1
    if row != COUNT:
        raise SystemExit(f"the tables of qm9pack hold {row} molecules, not {COUNT}: install qm9pack 1.0.3")


def _molecule(record: dict[str, str]) -> Atoms:
    symbols = record["Elements"].strip("[]").replace("'", "").split(",")
    info = {name: factor * float(record[column]) for name, (column, factor, _) in TARGETS.items()}
    return Atoms(symbols, json.loads(record["XYZ_Ang"]), info={"index": int(record["Index"]), **info})


def _tables() -> Path:
    found = importlib.util.find_spec("qm9pack")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the molecules are not here: pip install --no-deps qm9pack (104 MB)")
    return Path(found.submodule_search_locations[0]) / "data"
