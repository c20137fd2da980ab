import hashlib
import os
import re
import struct

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io import write
from ase.stress import voigt_6_to_full_3x3_stress

from race_calc.data.dataset import check_same_elements, dataset_from_atoms, element_names, read_dataset
from race_calc.data.hashes import data_hash, structure_hashes
from race_calc.data.label_names import LabelNames
from race_calc.data.references import read_isolated_atoms


def labelled(symbols="OH2", seed=0, stress=False, **labels):
    rng = np.random.default_rng(seed)
    n = len(Atoms(symbols))
    cell = dict(cell=4.0 * np.eye(3) + 0.3 * rng.random((3, 3)), pbc=True) if stress else {}
    atoms = Atoms(symbols, positions=3.0 * rng.random((n, 3)), **cell)
    results = {"energy": -1.0 - seed, "forces": rng.normal(size=(n, 3))}
    if stress:
        results["stress"] = rng.normal(size=6)
    results = {k: v for k, v in (results | labels).items() if v is not None}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def dataset(n=4, **kwargs):
    return dataset_from_atoms([labelled(seed=i, **kwargs) for i in range(n)])


@pytest.mark.parametrize("suffix", ["xyz", "traj", "json", "db"])
def test_round_trip_through_ase_formats(tmp_path, suffix):
    frames = [labelled(seed=1), labelled("CH4", seed=2), labelled("NaCl", seed=3, stress=True)]
    path = tmp_path / f"frames.{suffix}"
    write(path, frames)
    data = read_dataset(path)
    assert len(data) == 3 and data.elements == (1, 6, 8, 11, 17)
    assert data.energy.dtype == np.float64 and data.energy.shape == (3,)
    for i, atoms in enumerate(frames):
        assert data.structures[i].calc is None
        np.testing.assert_allclose(data.structures[i].positions, atoms.positions, atol=1e-7)
        np.testing.assert_allclose(data.energy[i], atoms.calc.results["energy"])
        np.testing.assert_allclose(data.forces[i], atoms.calc.results["forces"], atol=1e-7)
    assert data.stress[0] is None and data.stress[1] is None
    xx, yy, zz, yz, xz, xy = frames[2].calc.results["stress"]
    np.testing.assert_allclose(data.stress[2], [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]], atol=1e-7)


def test_index_and_subset(tmp_path):
    path = tmp_path / "with@sign.xyz"
    write(path, [labelled(seed=i) for i in range(5)], format="extxyz")
    assert read_dataset(path, "1:3").energy.tolist() == [-2.0, -3.0]
    assert read_dataset(path, 4).energy.tolist() == [-5.0]
    part = read_dataset(path).subset(np.array([3, 0]))
    assert part.energy.tolist() == [-4.0, -1.0] and len(part.forces) == len(part.stress) == 2
    for wrong in (5, -1):
        with pytest.raises(ValueError, match="outside the data set of 5"):
            read_dataset(path).subset([wrong])


def test_input_is_not_changed_and_constraints_do_not_touch_labels():
    atoms = labelled()
    atoms.set_constraint(FixAtoms([0]))
    data = dataset_from_atoms([atoms])
    np.testing.assert_array_equal(data.forces[0], atoms.calc.results["forces"])
    assert atoms.constraints and atoms.calc is not None and not data.structures[0].constraints
    data.forces[0][:] = 0.0
    assert atoms.calc.results["forces"].any()


def test_stress_is_dropped_without_a_volume():
    atoms = labelled(stress=True)
    atoms.cell[2], atoms.pbc = 0.0, (True, True, False)
    atoms.calc.results["stress"] = np.ones(6)
    assert dataset_from_atoms([atoms]).stress == (None,)


def test_stress_in_the_order_of_ase_is_the_full_tensor():
    atoms = Atoms("H", cell=np.eye(3), pbc=True)
    voigt = np.arange(1.0, 7.0)
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((1, 3)), stress=voigt)
    np.testing.assert_array_equal(dataset_from_atoms([atoms]).stress[0], voigt_6_to_full_3x3_stress(voigt))
    atoms.calc.results["stress"] = voigt_6_to_full_3x3_stress(voigt)  # a full one is taken as it is
    np.testing.assert_array_equal(dataset_from_atoms([atoms]).stress[0], voigt_6_to_full_3x3_stress(voigt))


def test_missing_file(tmp_path):
    for name in ("absent.xyz", "absent.npz", "absent.npz#test"):
        with pytest.raises(FileNotFoundError, match="absent.*does not exist"):
            read_dataset(tmp_path / name)


def test_file_that_ase_cannot_read(tmp_path):
    (tmp_path / "bad.xyz").write_text("three\nlines of\nnothing\n")
    (tmp_path / "empty.xyz").write_text("")
    for name in ("bad.xyz", "empty.xyz"):
        with pytest.raises(ValueError, match="ASE cannot read"):
            read_dataset(tmp_path / name)
    write(tmp_path / "one.xyz", labelled())
    with pytest.raises(ValueError, match="index 7"):
        read_dataset(tmp_path / "one.xyz", 7)
    with pytest.raises(ValueError, match="holds no structures"):
        read_dataset(tmp_path / "one.xyz", "3:")
    with pytest.raises(ValueError, match="holds no structures"):
        dataset_from_atoms([])


def test_data_without_forces_or_energy_names_the_frame(tmp_path):
    write(tmp_path / "data.xyz", [labelled(), labelled(forces=None)])
    with pytest.raises(ValueError, match=r"frame 1 of .*data.xyz has no forces"):
        read_dataset(tmp_path / "data.xyz")
    plain = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.7]], info={"REF_energy": 1.0})
    with pytest.raises(ValueError, match=r"frame 0 of .*data.xyz \(index 1:\) has no forces"):
        read_dataset(tmp_path / "data.xyz", "1:")
    with pytest.raises(ValueError, match=r"no energy and no forces: .*REF_energy"):
        dataset_from_atoms([plain])


def bad_atoms(kind):
    atoms = labelled(stress=True)
    if kind == "empty":
        return labelled("")
    if kind == "element":
        atoms.numbers[0] = 0
    elif kind == "positions":
        atoms.positions[0, 0] = np.nan
    elif kind == "cell vector":
        atoms.cell[1] = 0.0
    elif kind == "shape":
        atoms.calc.results["forces"] = np.zeros((2, 3))
    elif kind == "energy":
        atoms.calc.results["energy"] = np.inf
    else:
        atoms.calc.results[kind][0] = np.nan
    return atoms


@pytest.mark.parametrize(
    "kind, message",
    [
        ("empty", "no atoms"),
        ("element", "no chemical element"),
        ("positions", "positions not finite"),
        ("cell vector", "cell vector 1, which is zero"),
        ("shape", r"forces have the shape \(2, 3\)"),
        ("energy", "energy not finite"),
        ("forces", "forces not finite"),
        ("stress", "stress not finite"),
    ],
)
def test_bad_structures_are_named(kind, message):
    with pytest.raises(ValueError, match=f"frame 1 of the list of structures.*{message}"):
        dataset_from_atoms([labelled(), bad_atoms(kind)])


def test_same_elements():
    water, methane = dataset(), dataset(symbols="CH4")
    check_same_elements(water, water)
    check_same_elements(water, dataset(symbols="H2"))  # fewer elements are fine
    with pytest.raises(ValueError, match=r"validation set holds C, which the training set \(H, O\) lacks"):
        check_same_elements(water, methane)


def test_hash_sees_every_label_and_the_order():
    data = dataset(stress=True)
    assert data_hash(data) == data_hash(dataset(stress=True))
    hashes = structure_hashes(data)
    assert len(set(hashes)) == 4 and all(re.fullmatch("[0-9a-f]{64}", h) for h in hashes)
    turned = data.subset([1, 0, 2, 3])
    assert data_hash(turned) != data_hash(data)
    assert sorted(structure_hashes(turned)) == sorted(hashes)
    for change in ("energy", "forces", "stress", "positions", "cell", "numbers", "pbc"):
        other = dataset(stress=True)
        if change == "energy":
            other.energy[0] += 1e-9
        elif change in ("forces", "stress"):
            getattr(other, change)[0][0, 0] += 1e-9
        elif change == "positions":
            other.structures[0].positions[0, 0] += 1e-9
        elif change == "cell":
            other.structures[0].cell[0, 0] += 1e-9
        elif change == "numbers":
            other.structures[0].numbers[0] += 1
        else:
            other.structures[0].pbc[0] = False
        assert structure_hashes(other)[0] != hashes[0], change
        assert structure_hashes(other)[1:] == hashes[1:]


def test_hash_is_the_documented_one():
    atoms = Atoms("HF", positions=[[0.0, 0.0, -0.0], [0.0, 0.0, 0.92]])
    atoms.calc = SinglePointCalculator(atoms, energy=-1.5, forces=np.full((2, 3), 0.5))
    floats = [0.0] * 5 + [0.92] + [0.0] * 9 + [-1.5] + [0.5] * 6
    expected = hashlib.sha256(struct.pack("<3q3B22d", 2, 1, 9, 0, 0, 0, *floats)).hexdigest()
    data = dataset_from_atoms([atoms, atoms])
    assert structure_hashes(data) == (expected, expected)
    assert data_hash(data) == hashlib.sha256(2 * expected.encode()).hexdigest()


def test_real_files(shared_data):
    ethanol = read_dataset(f"{shared_data}/rmd17/rmd17_ethanol_01.npz#test", ":50")
    assert len(ethanol) == 50 and ethanol.elements == (1, 6, 8)
    silicon = read_dataset(shared_data / "mlearn" / "Si_vacancy_solid.xyz", ":5")
    assert silicon.elements == (14,) and all(s.shape == (3, 3) for s in silicon.stress)
    pool = read_dataset(shared_data / "3bpa" / "ood_600K.xyz", ":3")
    assert {a.info["T_source"] for a in pool.structures} <= {"train_mixedT", "AL_file"}


@pytest.mark.parametrize("name", ["data.xyz", "data.npz"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is a pipe"):
        read_dataset(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is a pipe"):
        read_isolated_atoms(tmp_path / name)


def test_numbers_that_are_no_elements_are_shown_as_numbers():
    assert element_names([0, 1, 118, 119]) == "Z=0, H, Og, Z=119"


def test_one_zero_vector_of_three_is_named():
    atoms = Atoms("H", cell=[4.0, 4.0, 0.0], pbc=True)
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((1, 3)))
    with pytest.raises(ValueError, match="periodic along cell vector 2, which is zero"):
        dataset_from_atoms([atoms])


def test_frames_that_are_no_index(tmp_path):
    write(tmp_path / "one.xyz", labelled())
    with pytest.raises(ValueError, match=r"'abc' names no frames of .*one.xyz: write a number or a slice, such as 7, 450: or ::2"):
        read_dataset(tmp_path / "one.xyz", "abc")


@pytest.mark.parametrize("value", ["x", "-1.98-1.98", None, [1.0, 2.0]])
def test_an_energy_that_is_no_number_is_named(value):
    atoms = labelled()
    atoms.info["E"] = value
    with pytest.raises(ValueError, match="frame 0 of the list of structures.*(energy is .*no number|energy has the shape|has no E)"):
        dataset_from_atoms([atoms], names=LabelNames(energy="E"))
