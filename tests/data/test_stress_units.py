"""Stresses of another sign or unit are recognised, for liquids and solids; right ones never are called wrong."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from small_run import alloy

from race_calc.data.dataset import Dataset, dataset_from_atoms, read_dataset
from race_calc.data.references import fit_references
from race_calc.data.stress_units import _functions, doubt_of_labels, doubt_of_stresses
from race_calc.data.targets import Example, examples_of

FACTORS = [
    (-1.0, "the opposite sign, as"),
    (160.2, "GPa"),
    (-1602.2, "opposite sign and another unit, probably"),
    (1 / 183.6, "Hartree/Bohr³"),
]
SYSTEMS = ["Si_liquid", "Si_solid", "Si_vacancy_solid", "Li_liquid"]


@pytest.fixture(scope="module")
def crystals() -> tuple[Example, ...]:
    return examples(dataset_from_atoms([alloy(seed) for seed in range(10)]))


def examples(data: Dataset) -> tuple[Example, ...]:
    return examples_of(data, fit_references(data, None), 5.0)


def scaled(some: tuple[Example, ...], factor: float) -> list[Example]:
    return [replace(one, virial=factor * one.virial) for one in some]


def test_right_ones_pass(crystals):
    assert doubt_of_stresses(crystals) is None


@pytest.mark.parametrize("factor, told", FACTORS)
def test_others_are_recognised(crystals, factor, told):
    assert told in doubt_of_stresses(scaled(crystals, factor))


@pytest.mark.parametrize("factor, told", FACTORS)
def test_beside_a_trained_model(factor, told):
    """Stresses that the model predicts up to a tenth."""
    random = np.random.default_rng(0)
    stress = random.normal(size=(5, 3, 3))
    predicted = stress + stress.swapaxes(1, 2)
    labelled = predicted * (1 + 0.1 * random.normal(size=(5, 1, 1)))
    assert doubt_of_labels(predicted, labelled, 100.0) is None
    assert told.removesuffix(", as") in doubt_of_labels(predicted, factor * labelled, 100.0)
    assert "eV (a virial)" in doubt_of_labels(predicted, 100.0 * labelled, 100.0)
    assert doubt_of_labels(predicted[:2], factor * labelled[:2], 100.0) is None  # too few
    other = random.normal(size=(5, 3, 3))
    assert doubt_of_labels(predicted, factor * (other + other.swapaxes(1, 2)), 100.0) is None  # a model that knows nothing tells nothing


def test_a_virial_is_recognised(crystals):
    assert "eV (a virial)" in doubt_of_stresses([replace(one, virial=one.virial * one.graph.volume[0]) for one in crystals])


@pytest.mark.parametrize("system", SYSTEMS)
def test_dft_of_crystals_and_liquids(shared_data, system):
    data = examples(read_dataset(shared_data / "mlearn" / f"{system}.xyz"))
    assert doubt_of_stresses(data) is None
    for factor, told in FACTORS:
        assert told in doubt_of_stresses(scaled(data, factor))


@pytest.mark.parametrize("frames", [":", "30:54", "36:42", "48:52", "0:20"])
def test_nothing_is_said_of_strained_crystals(shared_data, frames):
    """Forces that are zero by symmetry, or one number: a fit is not determined, and its virial may be anything."""
    data = examples(read_dataset(shared_data / "mlearn" / "Si_elastic.xyz", frames))
    assert doubt_of_stresses(data) is None and doubt_of_stresses(scaled(data, -1.0)) is None


def emt(atoms) -> Atoms:
    atoms.calc = EMT()
    labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


@pytest.mark.parametrize("element", ["Al", "Ni", "Pt", "Au"])
def test_right_labels_of_volumes_slabs_and_small_cells_pass(element):
    rng = np.random.default_rng(0)
    volumes = [emt(bulk(element, "hcp", a=a, c=1.6 * a)) for a in np.linspace(2.6, 3.1, 12)]
    slabs, cells = [], []
    for _ in range(12):
        slab = fcc111(element, (2, 2, 4), vacuum=6.0)
        slab.pbc = True
        slab.positions[:, 2] += rng.normal(scale=0.1, size=len(slab))
        slabs.append(emt(slab))
        cell = bulk(element, cubic=True)
        cell.positions += rng.normal(scale=0.1, size=(4, 3))
        cells.append(emt(cell))
    for frames in (volumes, slabs, cells, cells[:1] * 12):
        assert doubt_of_stresses(examples(dataset_from_atoms(frames))) is None


def test_nothing_is_said_where_nothing_can_be_told(crystals):
    assert doubt_of_stresses([]) is None
    assert doubt_of_stresses(scaled(crystals[:3], -1.0)) is None
    noise = np.random.default_rng(0)
    assert doubt_of_stresses([replace(one, virial=noise.normal(size=(3, 3)) * 100) for one in crystals]) is None
    assert doubt_of_stresses([replace(one, virial=np.full((3, 3), np.nan)) for one in crystals]) is None
    assert doubt_of_stresses([replace(one, virial=np.zeros((3, 3))) for one in crystals]) is None


def test_slopes_are_those_of_finite_differences():
    distance, step = np.linspace(1.0, 5.0, 9), 1e-6
    numerical = (_functions(distance + step, 5.0)[0] - _functions(distance - step, 5.0)[0]) / (2 * step)
    np.testing.assert_allclose(_functions(distance, 5.0)[1], numerical, atol=1e-8)
