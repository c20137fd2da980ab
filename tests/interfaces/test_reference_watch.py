"""Energies that a minimum-norm fit left open are warned of, once for each composition, and only these."""

import json
import shutil
import warnings

import numpy as np
import pytest
from ase.build import molecule

from race_calc.data.graph import collate, from_atoms
from race_calc.interfaces.calculator import RACECalculator
from race_calc.interfaces.reference_watch import compositions
from race_calc.posterior.manifest import write_manifest


@pytest.fixture
def ethanol_model(tiny_model, tmp_path):
    """As if trained on C2H6O alone: the energies of H, C and O are free but for 6 H + 2 C + O."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    free = np.linalg.svd(np.array([[6.0, 2.0, 1.0]]))[2][1:]
    config = json.loads((model / "config.json").read_text())
    config["references"]["undetermined"] = free.tolist()
    (model / "config.json").write_text(json.dumps(config))
    write_manifest(model)
    return model


def warned(call):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [str(one.message).split(" has a composition")[0] for one in found if issubclass(one.category, UserWarning)]


def test_a_molecule_that_breaks_is_warned_of_once(ethanol_model):
    calculator, atoms = RACECalculator(ethanol_model), molecule("CH3CH2OH")
    atoms.calc = calculator
    assert warned(atoms.get_potential_energy) == []
    hydroxyl = [2, 3]
    seen = []
    for _ in range(12):  # pulled away, half an Å a step: the list is made anew before it is out of reach
        atoms.positions[hydroxyl] += [0.0, 0.0, 0.5]
        seen += warned(atoms.get_potential_energy)
    assert seen == [f"a fragment {formula}, further than the cutoff from the rest," for formula in ("C2H5", "HO")]


def test_other_molecules_and_numbers_at_the_same_places_are_warned_of(ethanol_model):
    calculator = RACECalculator(ethanol_model)
    ethanol, water = molecule("CH3CH2OH"), molecule("H2O")
    assert warned(lambda: list(calculator.raw_predictions([ethanol, water, water]))) == ["a structure H2O"]
    assert warned(lambda: calculator.get_potential_energy(water)) == []  # told already
    two = ethanol.copy()
    two.positions += [20.0, 0.0, 0.0]
    assert warned(lambda: calculator.get_potential_energy(ethanol + two)) == []
    atoms = ethanol.copy()
    calculator.get_potential_energy(atoms)
    atoms.numbers[2] = 6  # the neighbour list still serves
    assert warned(lambda: calculator.get_potential_energy(atoms)) == ["a structure C3H6"]


def test_known_references_never_warn(tiny_model):
    assert warned(lambda: RACECalculator(tiny_model).get_potential_energy(molecule("H2O"))) == []


def test_pieces_of_a_batch():
    far = molecule("H2O") + molecule("CH4")
    far.positions[3:] += [9.0, 0.0, 0.0]
    graph = collate([from_atoms(molecule("CO2"), 4.0), from_atoms(far, 4.0)])
    assert [(sorted(numbers.tolist()), whole) for numbers, whole in compositions(graph)] == [
        ([6, 8, 8], True),
        ([1, 1, 1, 1, 1, 1, 6, 8], True),
        ([1, 1, 8], False),
        ([1, 1, 1, 1, 6], False),
    ]
