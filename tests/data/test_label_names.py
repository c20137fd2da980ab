"""Under which names labels stand: told, guessed where only one can be meant, or ASE's."""

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from race_calc.data.label_names import LABELS, LabelNames, NamesOrAse, names_in, or_ase

REF = LabelNames("REF_energy", "REF_forces", "REF_stress")


def frame(results=None, info=None, arrays=None):
    atoms = molecule("H2O")
    atoms.info |= info or {}
    for name, values in (arrays or {}).items():
        atoms.set_array(name, values)
    atoms.calc = None if results is None else SinglePointCalculator(atoms, **results)
    return atoms


ONES = np.ones((3, 3))
ASE = {"energy": -1.0, "forces": 0 * ONES}
OWN = {"info": {"REF_energy": -2.0}, "arrays": {"REF_forces": ONES}}


@pytest.mark.parametrize(
    "atoms, energy",
    [
        (frame(**OWN), -2.0),
        (frame(ASE, **OWN), -2.0),
        (frame(ASE), -1.0),
        (frame(ASE, {"REF_energy": -2.0, "labels": "gfn2-xtb"}, {"REF_forces": ONES}), -1.0),  # of `race-calc label`
        (frame(), None),
    ],
)
def test_names_of_a_training_or_those_of_ase(atoms, energy):
    found = NamesOrAse(**vars(REF)).of(atoms)
    assert found["energy"] == energy and (energy is None or (np.asarray(found["forces"]) == (ONES if energy == -2.0 else 0)).all())


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
    ],
)
def test_names_that_only_one_can_be_meant_by(atoms, expected):
    assert names_in([atoms, atoms.copy() if atoms.calc is None else atoms]) == expected
