"""Structures that go elsewhere for their labels, and what comes back."""

import csv
import io

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import read, write

from race_calc.data.extxyz import as_extxyz
from race_calc.label.elsewhere import TABLE, collect, export


@pytest.fixture
def frames():
    crystal = bulk("Cu", cubic=True)
    crystal.rattle(0.1, seed=1)
    water = molecule("H2O")
    water.info |= {"number": 7, "said": 'it is "wet"\nand cold'}
    return [water, crystal, molecule("CH4")]


def fill(folder, results: dict[int, str]) -> None:
    """As a user would in an editor."""
    rows = list(csv.reader((folder / TABLE).open(encoding="utf-8-sig")))
    for number, result in results.items():
        rows[number + 1][2] = result
    with (folder / TABLE).open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows(rows)


def computed(atoms: Atoms, path, **changes) -> None:
    made = atoms.copy()
    made.info = {}
    for name, value in changes.items():
        setattr(made, name, value)
    made.calc = EMT()
    made.get_forces()
    made.set_constraint(FixAtoms([0]))
    write(path, made, format="traj")


def test_there_and_back(frames, tmp_path):
    table = export(frames, tmp_path / "away")
    assert sorted(path.name for path in table.parent.iterdir()) == ["00000.xyz", "00001.xyz", "00002.xyz", "table.csv"]
    np.testing.assert_allclose(read(tmp_path / "away" / "00001.xyz").positions, frames[1].positions, atol=1e-7)
    computed(frames[0], tmp_path / "away" / "water.traj", positions=frames[0].positions + [3.0, 0.0, 0.001])  # centred elsewhere
    (tmp_path / "away" / "jobs").mkdir()
    wrapped = frames[1].positions.copy()
    wrapped[0] += frames[1].cell.array[2]
    computed(frames[1], tmp_path / "away" / "jobs" / "cu.traj", positions=wrapped)
    fill(tmp_path / "away", {0: "water.traj", 1: "jobs/cu.traj"})
    found = collect(frames, tmp_path / "away")
    assert (len(found.frames), found.failed, found.missing) == (2, (), 1)
    water, crystal = found.frames
    np.testing.assert_array_equal(water.positions, frames[0].positions)  # as they were given
    assert water.info["number"] == 7 and water.info["labels"] == "elsewhere" and water.info["labels_code"] == "water.traj"
    frames[1].calc = EMT()
    assert crystal.get_potential_energy() == pytest.approx(frames[1].get_potential_energy())
    np.testing.assert_allclose(crystal.get_stress(), frames[1].get_stress(), atol=1e-10)
    np.testing.assert_allclose(crystal.get_forces(), frames[1].get_forces(), atol=1e-10)  # whatever was fixed there
    text = io.StringIO(as_extxyz(found.frames).decode())
    assert read(text, index=0, format="extxyz").info["said"] == water.info["said"] == frames[0].info["said"]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"pbc": False}, "other periodic directions"),
        ({"cell": 1.01}, "another cell"),
        ({"positions": 0.5}, None),  # all by half a cell, and a little noise
        ({"positions": np.nan}, "from where it was"),
    ],
)
def test_crystals(frames, tmp_path, changes, said):
    crystal = frames[1]
    export([crystal], tmp_path / "away")
    found = crystal.copy()
    if "pbc" in changes:
        found.pbc = False
    elif "cell" in changes:
        found.set_cell(crystal.cell * changes["cell"], scale_atoms=True)
    else:
        found.positions += changes["positions"] * crystal.cell.lengths() + np.random.default_rng(0).normal(scale=1e-4, size=(4, 3))
    found.calc = SinglePointCalculator(found, energy=1.0, forces=np.zeros((4, 3)))
    write(tmp_path / "away" / "a.traj", found, format="traj")
    fill(tmp_path / "away", {0: "a.traj"})
    told = collect([crystal], tmp_path / "away")
    assert len(told.frames) == (said is None) and (said is None or said in told.failed[0][1])


def test_a_slab_is_no_crystal_along_its_normal(tmp_path):
    slab = fcc111("Cu", (1, 1, 2), vacuum=5.0)
    export([slab], tmp_path / "away")
    slab.positions[0] += slab.cell.array[0]
    computed(slab, tmp_path / "away" / "same.traj")
    fill(tmp_path / "away", {0: "same.traj"})
    slab.positions[0] -= slab.cell.array[0]
    assert len(collect([slab], tmp_path / "away").frames) == 1
    moved = slab.copy()
    moved.positions[0] += moved.cell.array[2]
    computed(moved, tmp_path / "away" / "same.traj")
    assert "from where it was" in collect([slab], tmp_path / "away").failed[0][1]


def test_the_box_of_a_molecule_gives_no_stress(frames, tmp_path):
    export(frames[:1], tmp_path / "away")
    boxed = frames[0].copy()
    boxed.set_cell([9.0, 9.0, 9.0])
    boxed.pbc = True
    computed(boxed, tmp_path / "away" / "a.traj")
    fill(tmp_path / "away", {0: "a.traj"})
    assert "stress" not in collect(frames[:1], tmp_path / "away").frames[0].calc.results


def test_results_that_cannot_be_used(frames, tmp_path):
    export(frames, folder := tmp_path / "away")
    moved = frames[0].positions.copy()
    moved[1] += 0.3
    computed(frames[0], folder / "moved.traj", positions=moved)
    write(folder / "unlabelled.xyz", frames[1])
    fill(folder, {0: "moved.traj", 1: "unlabelled.xyz", 2: "moved.traj"})
    found = collect(frames, folder)
    assert not found.frames and found.missing == 0
    reasons = dict(found.failed)
    assert "Å from where it was" in reasons[0] and "no calculator" in reasons[1] and "the atoms must be the same" in reasons[2]
    fill(folder, {0: "gone.traj", 1: "", 2: ""})
    assert "does not exist" in collect(frames, folder).failed[0][1]


def test_folders_and_tables_that_cannot_be(frames, tmp_path):
    export(frames, folder := tmp_path / "away")
    with pytest.raises(FileExistsError, match="give another folder"):
        export(frames, folder)
    with pytest.raises(ValueError, match="no structures"):
        export([], tmp_path / "none")
    with pytest.raises(ValueError, match="names frame 2, the file has 2"):
        collect(frames[:2], folder)
    with pytest.raises(FileNotFoundError, match="--export"):
        collect(frames, tmp_path)
    (folder / TABLE).write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="lacks the columns"):
        collect(frames, folder)
    (folder / TABLE).write_text("frame,structure,result\n0,a,b\n0,a,\n")
    with pytest.raises(ValueError, match="names a frame twice"):
        collect(frames, folder)
    (folder / TABLE).write_text("frame,structure,result\nx,a,b\n")
    with pytest.raises(ValueError, match="is no number"):
        collect(frames, folder)
