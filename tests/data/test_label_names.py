"""Under which names labels stand: told, guessed where only one can be meant, or ASE's."""

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from race_calc.data.dataset import read_dataset
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
