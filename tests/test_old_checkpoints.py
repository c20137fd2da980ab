"""A tiny model of every format version keeps giving what it gave."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from race_calc import RACECalculator
from race_calc.checkpoint import FORMAT_VERSION, load_checkpoint

FOLDERS = Path(__file__).parent / "old_checkpoints"


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION))
def test_gives_what_it_gave(version):
    folder = FOLDERS / f"version-{version}"
    expected = json.loads((folder / "expected.json").read_text())
    atoms = molecule("CH3CH2OH") if version == 1 else Atoms("Cu2Ag", positions=expected["positions"])
    atoms.calc = RACECalculator(folder)
    assert atoms.get_potential_energy() == pytest.approx(expected["energy"], abs=1e-8)
    np.testing.assert_allclose(atoms.get_forces(), expected["forces"], atol=1e-5)  # tables or not
    assert atoms.calc.results["bald_energy"] == pytest.approx(expected["bald_energy"], rel=1e-4)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.noise is None and checkpoint.last_layer is None
    assert checkpoint.model.plan.config.repulsion == ("none" if version == 1 else "zbl")
