"""Under which names labels stand: told, guessed where only one can be meant, or ASE's."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from race_calc.data.dataset import dataset_from_atoms, read_dataset
from race_calc.data.label_names import LABELS, LabelNames, NamesOfNew, NamesOrAse, names_in, or_ase

REF = LabelNames("REF_energy", "REF_forces", "REF_stress")


def frame(results=None, info=None, arrays=None):
    atoms = molecule("H2O")
    atoms.info |= info or {}
    for name, values in (arrays or {}).items():
        atoms.set_array(name, values)
    atoms.calc = None if results is None else SinglePointCalculator(atoms, **results)
    return atoms


FORCES = LabelNames("REF_energy", "REF_forces")
ONES = np.ones((3, 3))
ASE = {"energy": -1.0, "forces": 0 * ONES}
OWN = {"info": {"REF_energy": -2.0}, "arrays": {"REF_forces": ONES}}


@pytest.mark.parametrize(
    "atoms, energy",
    [
        (frame(**OWN), -2.0),
        (frame(ASE, **OWN), -2.0),
        (frame(ASE), -1.0),
        (frame(ASE, {"REF_energy": -2.0, "labels": "gfn2-xtb"}, {"REF_forces": ONES}), -2.0),  # both levels in one file
        (frame(), None),
    ],
)
def test_names_of_a_training_or_those_of_ase(atoms, energy):
    found = NamesOrAse(**vars(REF)).of(atoms)
    assert found["energy"] == energy and (energy is None or (np.asarray(found["forces"]) == (ONES if energy == -2.0 else 0)).all())


def test_of_new_labels_those_of_race_calc_label_win():
    both = frame(ASE, {"REF_energy": -2.0, "labels": "gfn2-xtb"}, {"REF_forces": ONES})
    assert or_ase(REF, NamesOfNew).of(both)["energy"] == -1.0
    assert or_ase(REF, NamesOfNew).of(frame(ASE, **OWN))["energy"] == -2.0 and or_ase(REF, NamesOfNew).of(frame(ASE))["energy"] == -1.0


def test_an_npz_file_has_labels_without_names(tmp_path):
    atoms = [frame(ASE) for _ in range(3)]
    arrays = {
        "nuclear_charges": atoms[0].numbers,
        "coords": [one.positions for one in atoms],
        "energies": np.ones(3),
        "forces": np.ones((3, 3, 3)),
    }
    np.savez(tmp_path / "x.npz", **arrays)
    assert len(read_dataset(tmp_path / "x.npz", names=or_ase(REF))) == 3
    with pytest.raises(ValueError, match="has no REF_energy"):
        read_dataset(tmp_path / "x.npz", names=REF)


def test_names_of_ase_stay():
    assert or_ase(LABELS) is LABELS and or_ase(REF) == NamesOrAse(**vars(REF))


@pytest.mark.parametrize(
    "atoms, expected",
    [
        (frame(ASE), LABELS),
        (frame(ASE, **OWN), LABELS),
        (frame(**OWN), LabelNames("REF_energy", "REF_forces")),
        (
            frame(None, {"dft_energy": 1.0, "DFT_stress": np.ones(6)}, {"Forces_dft": ONES}),
            LabelNames("dft_energy", "Forces_dft", "DFT_stress"),
        ),
        (frame(None, {"energy_a": 1.0, "energy_b": 1.0}, {"REF_forces": ONES}), None),  # which of them?
        (frame(None, {"REF_energy": 1.0}), None),
        (frame(None, {"REF_energy": 1.0}, {"force_norm": np.ones(3)}), None),
        (frame(None, {"REF_energy": 1.0, "energy_unit": "eV", "energy_weight": 2.0, "stress_weight": 1.0}, {"REF_forces": ONES}), FORCES),
    ],
)
def test_names_that_only_one_can_be_meant_by(atoms, expected):
    assert names_in([atoms, atoms.copy() if atoms.calc is None else atoms]) == expected


VIRIAL = np.array([[2.0, 0.5, 0.0], [0.5, 3.0, 0.0], [0.0, 0.0, 4.0]])


def cell(**info):
    atoms = bulk("Cu", cubic=True)
    atoms.info |= info
    atoms.arrays["REF_forces"] = np.zeros((4, 3))
    return atoms


@pytest.mark.parametrize("value", [VIRIAL, VIRIAL.ravel()])
def test_a_virial_is_minus_stress_times_volume(value, tmp_path):
    """Through a file, in which a name of its own makes nine numbers of a matrix."""
    write(tmp_path / "a.xyz", [cell(REF_energy=-1.0, REF_virial=value) for _ in range(3)])
    names = names_in(read(tmp_path / "a.xyz", ":"))
    assert names == LabelNames("REF_energy", "REF_forces", "REF_virial")
    stress = read_dataset(tmp_path / "a.xyz", names=names).stress[0]
    np.testing.assert_allclose(stress, -VIRIAL / bulk("Cu", cubic=True).get_volume(), rtol=1e-7)


def test_nine_numbers_are_a_stress(tmp_path):
    write(tmp_path / "a.xyz", [cell(REF_energy=-1.0, REF_stress=VIRIAL.ravel()) for _ in range(3)])
    names = names_in(read(tmp_path / "a.xyz", ":"))
    np.testing.assert_allclose(read_dataset(tmp_path / "a.xyz", names=names).stress[2], VIRIAL, rtol=1e-7)


def test_energies_per_atom_and_frames_without_labels_do_not_confuse():
    frames = [cell(REF_energy=-4.0, REF_energy_per_atom=-1.0, formation_energy=0.1) for _ in range(5)]
    del frames[3].arrays["REF_forces"]
    names = names_in(frames)
    assert names == LabelNames("REF_energy", "REF_forces")
    with pytest.raises(ValueError, match="frame 3 of the list of structures has no REF_forces:"):
        dataset_from_atoms(frames, names=names)
    del frames[4].arrays["REF_forces"]
    with pytest.raises(ValueError, match="frame 3 .* has no REF_forces, nor have 1 after it all of them"):
        dataset_from_atoms(frames, names=names)


def test_energies_beside_free_energies():
    atoms = frame({"energy": -1.0, "free_energy": -1.2, "forces": 0 * ONES})
    with pytest.warns(UserWarning, match=r"differ by up to 0.2 eV .smearing.*keys: .energy: free_energy"):
        dataset_from_atoms([atoms])
    assert dataset_from_atoms([atoms], names=LabelNames(energy="free_energy")).energy[0] == -1.2
