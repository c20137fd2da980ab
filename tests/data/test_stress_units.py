"""Stresses of another sign or unit are recognised, for liquids and solids; right ones never are called wrong."""

from dataclasses import replace

import numpy as np
import pytest
from small_run import alloy

from race_calc.data.dataset import Dataset, dataset_from_atoms, read_dataset
from race_calc.data.references import fit_references
from race_calc.data.stress_units import _functions, check_stresses
from race_calc.data.targets import Example, examples_of

FACTORS = [
    (-1.0, "the opposite sign: a first"),
    (160.2, "GPa"),
    (-1602.2, "opposite sign and another unit, probably"),
    (1 / 183.6, "Hartree/Bohr³"),
]
SYSTEMS = [f"Si_{name}" for name in ("elastic", "liquid", "solid", "vacancy_liquid", "vacancy_solid")]
SYSTEMS += [f"Li_{name}" for name in ("liquid", "solid", "vacancy_solid")]


@pytest.fixture(scope="module")
def crystals() -> tuple[Example, ...]:
    return examples(dataset_from_atoms([alloy(seed) for seed in range(8)]))


def examples(data: Dataset) -> tuple[Example, ...]:
    return examples_of(data, fit_references(data, None), 5.0)


def scaled(some: tuple[Example, ...], factor: float) -> list[Example]:
    return [replace(one, virial=factor * one.virial) for one in some]


def test_right_ones_pass(crystals):
    check_stresses(crystals)


@pytest.mark.parametrize("factor, told", FACTORS)
def test_others_are_recognised(crystals, factor, told):
    with pytest.raises(ValueError, match=told):
        check_stresses(scaled(crystals, factor))


def test_a_virial_is_recognised(crystals):
    with pytest.raises(ValueError, match=r"eV \(a virial\)"):
        check_stresses([replace(one, virial=one.virial * one.graph.volume[0]) for one in crystals])


@pytest.mark.parametrize("system", SYSTEMS)
def test_dft_of_crystals_and_liquids(shared_data, system):
    data = examples(read_dataset(shared_data / "mlearn" / f"{system}.xyz"))
    check_stresses(data)
    for factor, told in FACTORS:
        with pytest.raises(ValueError, match=told):
            check_stresses(scaled(data, factor))


def test_nothing_is_said_where_nothing_can_be_told(crystals):
    check_stresses([])
    check_stresses(scaled(crystals[:3], -1.0))
    noise = np.random.default_rng(0)
    check_stresses([replace(one, virial=noise.normal(size=(3, 3)) * 100) for one in crystals])
    check_stresses([replace(one, virial=np.full((3, 3), np.nan)) for one in crystals])
    check_stresses([replace(one, virial=np.zeros((3, 3))) for one in crystals])


def test_slopes_are_those_of_finite_differences():
    distance, step = np.linspace(1.0, 5.0, 9), 1e-6
    numerical = (_functions(distance + step, 5.0)[0] - _functions(distance - step, 5.0)[0]) / (2 * step)
    np.testing.assert_allclose(_functions(distance, 5.0)[1], numerical, atol=1e-8)
