"""Frames as extended XYZ: whatever arrays and info they have, ASE reads the file again."""

import io

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read

from race_calc.data.extxyz import as_extxyz

ARRAYS = {
    "residuenames": (np.array(["", "a b", "SOL"]), ["_", "a_b", "SOL"]),
    "counts": (np.array([1, 2, 3], dtype=np.uint8), [1, 2, 3]),
    "tensor": (np.arange(27.0).reshape(3, 3, 3), np.arange(27.0).reshape(3, 9)),
    "mask": (np.array([True, False, True]), [True, False, True]),
    "no blanks: here": (np.array([1.5, 2.5, 3.5]), [1.5, 2.5, 3.5]),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back(name):
    given, expected = ARRAYS[name]
    atoms = molecule("H2O")
    atoms.arrays[name] = given
    frames = read(io.StringIO(as_extxyz([atoms, atoms]).decode()), ":", format="extxyz")
    assert len(frames) == 2 and np.array_equal(frames[1].arrays[name.replace(" ", "_").replace(":", "_")], expected)
    assert np.array_equal(atoms.arrays[name], given)  # the atoms stay as they were


@pytest.mark.parametrize("values", [np.array([{}, 1, None], dtype=object), np.ones(3, dtype=complex), np.zeros((3, 0))])
def test_what_the_format_cannot_hold_is_left_out(values):
    atoms = molecule("H2O")
    atoms.arrays["strange"] = values
    with pytest.warns(UserWarning, match="'strange' of kind .* is left out"):
        text = as_extxyz([atoms]).decode()
    assert "strange" not in read(io.StringIO(text), format="extxyz").arrays


def test_none():
    assert as_extxyz([]) == b""
