"""Structures that go elsewhere for their labels, and what comes back."""

import csv

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import read, write

from race_calc.label.elsewhere import TABLE, collect, export


@pytest.fixture
def frames():
    crystal = bulk("Cu", cubic=True)
    crystal.rattle(0.1, seed=1)
    water = molecule("H2O")
    water.info["number"] = 7
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
    assert "FileNotFoundError" in collect(frames, folder).failed[0][1]


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
    (folder / TABLE).write_text("frame,structure,result\nx,a,b\n")
    with pytest.raises(ValueError, match="is no number"):
        collect(frames, folder)
