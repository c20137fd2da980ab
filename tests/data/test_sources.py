"""Several files, frames of files, and labels by other names."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from race_calc.data.dataset import dataset_from_atoms, read_dataset
from race_calc.data.label_names import LabelNames
from race_calc.data.references import read_isolated_atoms
from race_calc.data.sources import read_sources

REF = LabelNames("REF_energy", "REF_forces", "REF_stress")


def frame(seed, named=False):
    rng = np.random.default_rng(seed)
    atoms = Atoms("Cu2", positions=rng.normal(size=(2, 3)) + [[0, 0, 0], [2.5, 0, 0]], cell=[6, 6, 6], pbc=True)
    labels = {"energy": float(seed), "forces": rng.normal(size=(2, 3)), "stress": rng.normal(size=6)}
    other = {"energy": -1.0, "forces": np.zeros((2, 3)), "stress": np.zeros(6)}  # of a cheaper method
    if named:
        atoms.info["REF_energy"], atoms.arrays["REF_forces"], atoms.info["REF_stress"] = labels.values()
    atoms.calc = SinglePointCalculator(atoms, **(other if named else labels))
    return atoms


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "a.xyz", [frame(seed) for seed in range(6)])
    write(tmp_path / "b.xyz", [frame(seed) for seed in range(10, 14)])
    write(tmp_path / "ref.xyz", [frame(seed, named=True) for seed in range(20, 23)])
    return tmp_path


def test_files_one_after_the_other(folder):
    found = read_sources(folder, ["a.xyz@1:4", "b.xyz", "a.xyz@-1"])
    assert found.energy.tolist() == [1, 2, 3, 10, 11, 12, 13, 5]
    assert len(found.structures) == len(found.forces) == len(found.stress) == 8
    np.testing.assert_allclose(found.forces[3], frame(10).get_forces(), atol=1e-7)
    assert read_sources(folder, "a.xyz@::2").energy.tolist() == [0, 2, 4]


def test_a_file_whose_name_has_such_an_end_is_read_whole(folder):
    (folder / "a.xyz").rename(folder / "a@2:4")
    write(folder / "c@1.xyz", frame(7))
    assert len(read_sources(folder, "a@2:4")) == 6
    assert read_sources(folder, "c@1.xyz").energy.tolist() == [7]


def test_labels_by_other_names(folder):
    found, plain = read_sources(folder, "ref.xyz", REF), read_sources(folder, "ref.xyz")
    assert found.energy.tolist() == [20, 21, 22] and plain.energy.tolist() == [-1, -1, -1]
    expected = dataset_from_atoms([frame(20)])
    np.testing.assert_allclose(found.forces[0], expected.forces[0], atol=1e-7)
    np.testing.assert_allclose(found.stress[0], expected.stress[0], atol=1e-7)
    only = read_sources(folder, "ref.xyz", LabelNames(energy="REF_energy"))  # the rest as it stands in the results
    assert only.energy[0] == 20 and not only.forces[0].any()


def test_isolated_atoms_by_other_names(tmp_path):
    atom = Atoms("Cu")
    atom.info["REF_energy"] = -3.5
    write(tmp_path / "atoms.xyz", atom)
    assert read_isolated_atoms(tmp_path / "atoms.xyz", REF) == {29: -3.5}
    with pytest.raises(ValueError, match="store it as 'energy'"):
        read_isolated_atoms(tmp_path / "atoms.xyz")


@pytest.mark.parametrize(
    ("source", "error", "match"),
    [
        ("c.xyz@0:4", FileNotFoundError, "c.xyz does not exist"),
        (["a.xyz", "c.xyz"], FileNotFoundError, "c.xyz does not exist"),
        ("a.xyz@9:", ValueError, "holds no structures"),
        ("a.xyz@9", ValueError, "index inside the file"),
        ("a.xyz@x", FileNotFoundError, "a.xyz@x does not exist"),
    ],
)
def test_what_is_not_there_is_named(folder, source, error, match):
    with pytest.raises(error, match=match):
        read_sources(folder, source)


def test_a_wrong_name_says_what_there_is(folder):
    with pytest.raises(ValueError, match=r"no DFT_energy.*keys of data or data\.low_level.*found info keys \['REF_energy', 'REF_stress'\]"):
        read_dataset(folder / "ref.xyz", names=LabelNames("DFT_energy", "REF_forces"))
