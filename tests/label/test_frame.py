"""One structure labelled: what goes in, what comes out."""

import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from race_calc.data.dataset import dataset_from_atoms
from race_calc.label.frame import label
from race_calc.label.methods import Method, doubts

EMT_METHOD = Method("own_methods:emt")


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def test_labels_are_those_of_the_calculator(tmp_path):
    atoms = copper()
    found = label(atoms, tmp_path, EMT_METHOD)
    atoms.calc = EMT()
    assert found.get_potential_energy() == atoms.get_potential_energy()
    np.testing.assert_array_equal(found.get_forces(), atoms.get_forces())
    np.testing.assert_array_equal(found.get_stress(), atoms.get_stress())


def test_constraints_do_not_touch_the_forces(tmp_path):
    atoms = copper()
    free = label(atoms, tmp_path, EMT_METHOD).get_forces()
    atoms.set_constraint(FixAtoms([0]))
    np.testing.assert_array_equal(label(atoms, tmp_path, EMT_METHOD).get_forces(), free)
    assert atoms.constraints  # the structure that was given is as it was


def test_provenance_takes_the_place_of_a_prediction(tmp_path):
    atoms = copper()
    atoms.info |= {"labels": "predicted", "step": 7}
    found = label(atoms, tmp_path, EMT_METHOD)
    assert found.info == {"labels": "own_methods:emt", "labels_code": EMT_METHOD.code(), "step": 7}
    assert re.fullmatch("own_methods [0-9a-f]{12}", EMT_METHOD.code())
    assert len(dataset_from_atoms([found])) == 1


def test_the_free_energy_is_taken_and_a_missing_stress_is_left_out(tmp_path):
    found = label(copper(), tmp_path, Method("own_methods:free"))
    assert found.get_potential_energy() == 1.5 and set(found.calc.results) == {"energy", "forces"}


def test_no_stress_without_a_cell(tmp_path):
    assert set(label(molecule("H2O"), tmp_path, EMT_METHOD).calc.results) == {"energy", "forces"}


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda atoms: atoms.positions.__setitem__((0, 0), np.nan), "positions of atom 0 are not finite"),
        (lambda atoms: atoms.positions.__setitem__((0, 0), -3.0), "forces not finite"),
        (lambda atoms: atoms.__delitem__(slice(None)), "has no atoms"),
    ],
)
def test_what_cannot_be_labelled_is_named(tmp_path, spoil, message):
    atoms = copper()
    spoil(atoms)
    with pytest.raises(ValueError, match=message):
        label(atoms, tmp_path, Method("own_methods:odd"))


@pytest.mark.parametrize(
    "name, message",
    [
        ("gfn9-xtb", "there is no method 'gfn9-xtb': take gfn2-xtb or gfn1-xtb"),
        (":f", "there is no method ':f'"),
        ("own_methods:broken", "own_methods:broken: RuntimeError: no licence"),
        ("own_methods:absent", "AttributeError"),
        ("not_there_at_all:f", "ModuleNotFoundError"),
        ("own_methods:not_a_calculator", "made a dict, which is no ASE calculator"),
    ],
)
def test_methods_that_are_none(name, message):
    with pytest.raises(ValueError, match=message):
        Method(name).calculator()


@pytest.mark.parametrize("name", ["gfn2-xtb", "gfn1-xtb"])
def test_xtb_forces_are_the_gradient(tmp_path, name):
    pytest.importorskip("tblite", reason="needs race_calc[xtb]")
    atoms, step = molecule("CH3OH"), 1e-3
    atoms.rattle(0.05, seed=2)
    method = Method(name)
    found = label(atoms, tmp_path, method)
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[1, 2] += sign * step
        energies.append(label(moved, tmp_path, method).get_potential_energy())
    np.testing.assert_allclose(found.get_forces()[1, 2], -(energies[0] - energies[1]) / (2 * step), atol=1e-4)
    assert found.info["labels_code"].startswith("tblite ")


def test_small_cells_are_doubted():
    large = bulk("Si", cubic=True).repeat(2)
    flat = bulk("Si", cubic=True).repeat((1, 2, 2))
    flat.pbc = [False, True, True]
    assert doubts("gfn2-xtb", [large, flat, molecule("H2O")]) == []
    (told,) = doubts("gfn1-xtb", [large, bulk("Si"), bulk("Si", cubic=True)])
    assert told.startswith("2 structures have a periodic cell lower than 10 Å, and gfn1-xtb is computed at the Γ point only")
    assert doubts("own_methods:emt", [bulk("Cu")]) == []


@pytest.mark.parametrize("pbc", [(1, 0, 0), (1, 1, 0)])
def test_xtb_refuses_what_it_would_compute_as_another_cell(tmp_path, pbc):
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], cell=[12, 12, 12], pbc=pbc)
    with pytest.raises(ValueError, match="gfn2-xtb knows no cell that is periodic along some directions only"):
        label(atoms, tmp_path, Method("gfn2-xtb"))


def test_xtb_refuses_heavy_elements(tmp_path):
    pytest.importorskip("tblite", reason="needs race_calc[xtb]")
    with pytest.raises(Exception, match="gfn2-xtb knows H to Rn, not U"):
        label(Atoms("U2", [[0, 0, 0], [0, 0, 2.5]]), tmp_path, Method("gfn2-xtb"))


def test_without_tblite_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tblite.ase", None)
    with pytest.raises(ValueError, match=r"gfn2-xtb needs tblite .*pip install 'race_calc\[xtb\]'"):
        Method("gfn2-xtb").calculator()
