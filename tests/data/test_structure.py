"""Structures that cannot be evaluated are refused with a reason; other arrays than float64 are converted exactly."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from race_calc import RACECalculator
from race_calc.data.structure import checked


@pytest.mark.parametrize(
    "atoms, message",
    [
        (Atoms(), "no atoms"),
        (Atoms("CH", positions=[[0, 0, 0], [0, np.nan, 0]]), "atom 1 are not finite"),
        (Atoms("CH", positions=[[0, 0, -np.inf], [0, 1, 0]]), "atom 0 are not finite"),
        (Atoms("C", cell=[np.nan, 4, 4], pbc=True), "cell is not finite"),
        (Atoms("C", pbc=True), "cell vector 0 but that vector is zero"),
        (Atoms("C", cell=[4, 4, 0], pbc=True), "cell vector 2 but that vector is zero"),
        (Atoms("C", cell=[[4, 0, 0], [8, 0, 0], [0, 0, 4]], pbc=True), "linearly dependent"),
        (Atoms("C", cell=[[4, 0, 0], [8, 0, 0], [0, 0, 0]], pbc=[True, True, False]), "linearly dependent"),
        # numerically flat: rank 3 by a rounding error
        (Atoms("C", cell=[[4, 0, 0], [4, 1e-12, 0], [0, 0, 4]], pbc=True), "linearly dependent"),
    ],
)
def test_structures_that_cannot_be_evaluated(atoms, message):
    with pytest.raises(ValueError, match=message):
        checked(atoms)


def water(**arrays) -> Atoms:
    atoms = molecule("H2O")
    atoms.positions = np.round(atoms.positions, 2)
    atoms.arrays.update(arrays)
    return atoms


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"numbers": np.array([8, 1.5, 1])}, "atom 1 has the atomic number 1.5"),
        ({"numbers": np.array([8, np.nan, 1])}, "atom 1 has the atomic number nan"),
        ({"numbers": np.array([8, 1, 119])}, "atom 2 has the atomic number 119 .*1 to 118"),
        ({"numbers": np.array([8, -1, 1])}, "atomic number -1"),
        ({"numbers": np.array([0, 1, 1])}, "atomic number 0 .*remove dummy atoms"),
        ({"numbers": np.array([8, 1, 1], dtype=object)}, "atomic numbers have the type object"),
        ({"numbers": np.array([True] * 3)}, "atomic numbers have the type bool"),
        ({"numbers": np.array([8, 1])}, r"atomic numbers have the shape \(2,\), expected \(3,\)"),
        ({"positions": np.zeros((3, 3), dtype=complex)}, "positions have the type complex128"),
        ({"positions": np.full((3, 3), "0.5", dtype=object)}, "positions have the type object"),
        ({"positions": np.zeros((3, 2))}, r"positions have the shape \(3, 2\), expected \(3, 3\)"),
        ({"positions": np.ma.masked_equal(np.eye(3), 1)}, "3 values are masked"),
        ({"positions": np.eye(3) * 1e7}, r"atom 0 lies at 1e\+07 Å, where float64 holds only 2e-09 Å"),
        ({"positions": np.full((3, 3), 2**64 - 1, dtype=np.uint64)}, "atom 0 lies at 1.84e.19"),
    ],
)
def test_arrays_that_are_no_structure(arrays, message):
    with pytest.raises(ValueError, match=message):
        checked(water(**arrays))


@pytest.mark.parametrize("scale", [1e7, 1e155, 1e300])
def test_cells_without_meaning(scale):
    with pytest.raises(ValueError, match="a cell vector is .* Å long"):
        checked(Atoms("C", cell=[scale, 4, 4], pbc=True))


@pytest.mark.parametrize(
    "cell, message", [(4 * np.eye(3) + 1j, "complex128"), (np.full(3, 4.0), r"\(3,\)"), (np.eye(3, dtype=object), "object")]
)
def test_a_cell_that_ase_would_change_while_copying(tiny_model, cell, message):
    calculator, atoms = RACECalculator(tiny_model), Atoms("C", cell=[4, 4, 4], pbc=True)
    atoms.cell.array = cell
    for ask in (calculator.calculate, lambda atoms: calculator.get_property("energy", atoms)):
        with pytest.raises(ValueError, match=f"cell vectors have the .*{message}"):
            ask(atoms)


@pytest.mark.parametrize("kind", [complex, object, str, "S20"])
def test_strange_arrays_are_refused_also_after_a_calculation(tiny_model, kind):
    """ASE finds a complex array of the same numbers unchanged, and fails on strings with NumPy's words."""
    calculator, atoms = RACECalculator(tiny_model), water()
    calculator.get_property("energy", atoms)
    for name in ("positions", "numbers"):
        with pytest.raises(ValueError, match="have the type"):
            calculator.get_property("energy", water(**{name: water().arrays[name].astype(kind)}))


def test_other_arrays_of_the_same_numbers_give_the_same_energy(tiny_model):
    calculator, atoms = RACECalculator(tiny_model), water()
    expected = calculator.get_property("forces", atoms)
    halves = np.array([[0, 0, 0.5], [0, 0.75, -0.5], [0, -0.75, -0.5]])
    for positions in (
        np.asfortranarray(atoms.positions),
        atoms.positions.astype(">f8"),
        np.repeat(atoms.positions, 2, axis=0)[::2],
        np.ma.array(atoms.positions),
    ):
        assert (calculator.get_property("forces", water(positions=positions)) == expected).all()
    for numbers in (np.array([8.0, 1.0, 1.0]), np.array([8, 1, 1], dtype=np.uint8), np.array([8, 1, 1], dtype=">i4")):
        assert (calculator.get_property("forces", water(numbers=numbers)) == expected).all()
    expected = calculator.get_property("forces", water(positions=halves))
    for dtype in (np.float32, np.float16, np.longdouble):
        assert (calculator.get_property("forces", water(positions=halves.astype(dtype))) == expected).all()
    whole = water(positions=(4 * halves).astype(int))
    assert (calculator.get_property("forces", whole) == calculator.get_property("forces", water(positions=4 * halves))).all()


def test_good_structures_are_not_copied():
    atoms = water()
    assert checked(atoms) is atoms


def test_a_shift_by_many_cells_is_exact_or_refused(tiny_model):
    calculator = RACECalculator(tiny_model)
    crystal = Atoms("CO", positions=[[0, 0, 0], [1.3, 0.2, 0]], cell=[[0, 2.5, 2.5], [2.5, 0, 2.5], [2.5, 2.5, 0]], pbc=True)
    energy = calculator.get_property("energy", crystal)
    for cells in (1, 1000, 300_000):
        moved = crystal.copy()
        moved.positions[1] += cells * (moved.cell[0] - moved.cell[1])
        assert calculator.get_property("energy", moved) == pytest.approx(energy, abs=1e-8)
    moved.positions[1] += 1e11 * moved.cell[0]
    with pytest.raises(ValueError, match="float64 holds only 3e-05 Å"):
        calculator.get_property("energy", moved)
