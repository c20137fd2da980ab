"""Models of every format version, and shipped models of earlier releases, keep giving what they gave."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.morse import MorsePotential

from race_calc import RACECalculator
from race_calc.posterior.checkpoint import FORMAT_VERSION, load_checkpoint


def morse() -> MorsePotential:
    return MorsePotential(epsilon=0.3, r0=2.6, rho0=4.0, rcut1=3.0, rcut2=4.0)


FOLDERS = Path(__file__).parent / "old_checkpoints"


@pytest.mark.parametrize("version", (1, 2))
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
    assert checkpoint.model.plan.config.baseline == ("none" if version == 1 else "zbl")


def test_every_format_has_a_folder():
    versions = {json.loads(path.read_text())["version"] for path in FOLDERS.rglob("config.json")}
    assert versions == set(range(1, FORMAT_VERSION + 1))


@pytest.mark.parametrize(
    "name",
    (
        "version-3-ensemble",
        "version-3-llpr",
        "version-3-laplace",
        "version-4-ensemble",
        "version-5-ensemble",
        "version-6-external",
        "version-7-ensemble",
        "version-8-states",
        "version-9-ensemble",
        "version-10-ensemble",
        "shipped/3bpa-de",
        "shipped/3bpa-llpr",
    ),
)
def test_gives_every_result_that_it_gave(name):
    expected = json.loads((FOLDERS / name / "expected.json").read_text())
    atoms = Atoms(expected["numbers"], positions=expected["positions"])
    options = {"baseline": morse()} if name == "version-6-external" else {"state": expected.get("state", 0)}
    atoms.calc = RACECalculator(FOLDERS / name, device="cpu", **options)
    atoms.get_potential_energy()
    results = atoms.calc.results
    assert atoms.calc.checkpoint.center is None  # the means are those of the members, as they were
    assert set(results) == {*expected["results"], "free_energy"}
    for key, value in expected["results"].items():
        scale = max(np.abs(value).max(), 1e-12)
        tolerance = 1e-9 if key in ("energy", "energies") else 1e-4  # of the largest entry; tables or not
        np.testing.assert_allclose(results[key], value, rtol=0, atol=tolerance * scale, err_msg=key)
    assert atoms.calc.thresholds == pytest.approx(expected["thresholds"], rel=1e-12)
