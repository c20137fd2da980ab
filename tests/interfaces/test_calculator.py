"""RACECalculator: results, ASE rules, copies and pickles, bad input."""

import copy
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.io import read, write
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from ase.units import fs

from race_calc import RACECalculator
from race_calc.uncertainty.calibration import Calibration


@pytest.fixture
def ethanol():
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.fixture
def crystal():
    atoms = bulk("C", a=3.6) * (1, 1, 2)
    atoms.rattle(0.05, seed=2)
    return atoms


def test_results_of_a_molecule(tiny_model, ethanol):
    ethanol.calc = RACECalculator(tiny_model)
    n = len(ethanol)
    energy = ethanol.get_potential_energy()
    results = ethanol.calc.results
    assert isinstance(energy, float) and results["free_energy"] == energy
    assert results["energies"].sum() == pytest.approx(energy, abs=1e-9)
    assert isinstance(results["energy_uncertainty"], float) and isinstance(results["bald_energy"], float)
    shapes = {"forces": (n, 3), "forces_uncertainty": (n, 3), "forces_covariance": (n, 3, 3), "bald_forces": (n,)}
    assert {name: results[name].shape for name in shapes} == shapes
    total = results["forces_covariance_epistemic"] + results["forces_covariance_aleatoric"]
    assert results["forces_covariance"] == pytest.approx(total)
    assert results["forces_uncertainty"] ** 2 == pytest.approx(np.diagonal(total, axis1=1, axis2=2))
    with pytest.raises(PropertyNotImplementedError):
        ethanol.get_stress()
    assert set(results) <= set(ethanol.calc.implemented_properties)


def test_stress_of_a_crystal(tiny_model, crystal):
    crystal.calc = RACECalculator(tiny_model)
    assert crystal.get_stress().shape == (6,)
    covariance = crystal.calc.get_property("stress_covariance")
    assert crystal.calc.get_property("stress_uncertainty") ** 2 == pytest.approx(np.diagonal(covariance))
    assert "stress_uncertainty_aleatoric" not in crystal.calc.implemented_properties


def test_stress_and_forces_are_derivatives(tiny_model, crystal):
    slab = crystal.copy()
    slab.pbc = (True, True, False)
    slab.cell[2] = [0.3, 0.2, 9.0]
    for atoms in (crystal, slab):
        atoms.calc = RACECalculator(tiny_model)
        stress, numerical = atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5)
        assert stress == pytest.approx(numerical, abs=1e-7 * np.abs(stress).max() + 1e-9)
        assert atoms.get_forces() == pytest.approx(calculate_numerical_forces(atoms, eps=1e-4), abs=1e-6)


def test_mean_of_members_and_one_evaluation(tiny_model, ethanol, monkeypatch):
    calc = RACECalculator(tiny_model, members=True)
    calls = []
    predict = type(calc.posterior).predict
    monkeypatch.setattr(type(calc.posterior), "predict", lambda self, graph: calls.append(1) or predict(self, graph))
    ethanol.calc = calc
    forces = ethanol.get_forces()
    members = calc.get_property("forces_members", ethanol)
    assert members.mean(0) == pytest.approx(forces, abs=1e-12)
    assert calc.get_property("energies_members", ethanol).mean() == pytest.approx(ethanol.get_potential_energy())
    assert calc.prediction(ethanol).energy[0] == ethanol.get_potential_energy()
    assert len(calls) == 1
    ethanol.positions[0, 0] += 0.01
    ethanol.get_forces()
    assert len(calls) == 2


@pytest.mark.parametrize("name", ["ethanol", "crystal"])
def test_what_was_predicted_before_changes_no_bit(tiny_model, name, request):
    """A run that goes on in another process makes the same steps only then."""
    atoms, random = request.getfixturevalue(name), np.random.default_rng(0)
    used = RACECalculator(tiny_model)
    for _ in range(20):  # through the skin several times
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        before = used.get_property("forces", atoms)
    new = RACECalculator(tiny_model)
    np.testing.assert_array_equal(new.get_property("forces", atoms), before)
    assert new.get_potential_energy(atoms) == used.get_potential_energy(atoms)


def test_custom_names_do_not_disturb_ase(tiny_model, ethanol, tmp_path):
    ethanol.calc = RACECalculator(tiny_model)
    properties = ethanol.get_properties(["energy", "forces"])
    assert "energy_uncertainty" not in properties and properties["forces"].shape == (len(ethanol), 3)
    for name in ("a.traj", "a.xyz", "a.json"):
        write(tmp_path / name, ethanol)
        assert read(tmp_path / name).get_potential_energy() == pytest.approx(ethanol.get_potential_energy())


def test_lists_are_per_instance(tiny_model):
    first, second = RACECalculator(tiny_model), RACECalculator(tiny_model, members=True)
    assert "forces_members" not in first.implemented_properties
    assert set(first.implemented_properties) < set(second.implemented_properties)


def test_thresholds_can_be_set(tiny_model):
    calculator = RACECalculator(tiny_model)
    calculator.thresholds = {"forces_uncertainty_max": 0.1}
    assert calculator.thresholds == {"forces_uncertainty_max": 0.1}
    calculator.calibration = Calibration("", 50, None, None)
    calculator.thresholds = {"forces_uncertainty_max": 0.2}
    assert calculator.thresholds == calculator.calibration.thresholds == {"forces_uncertainty_max": 0.2}


def test_shared_copied_and_pickled(tiny_model, ethanol):
    ethanol.calc = RACECalculator(tiny_model)
    energy = ethanol.get_potential_energy()
    other = ethanol.copy()
    other.calc = ethanol.calc
    other.rattle(0.1, seed=5)
    assert other.get_potential_energy() != energy and ethanol.get_potential_energy() == energy
    for twin in (copy.deepcopy(ethanol), pickle.loads(pickle.dumps(ethanol))):
        assert twin.calc is not ethanol.calc and twin.get_potential_energy() == energy
        twin.rattle(0.1, seed=6)
        assert twin.get_potential_energy() != energy


def test_a_pickle_holds_the_path_and_the_options(tiny_model, ethanol, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    calc = RACECalculator(folder, dtype="float32", members=True)
    calc.thresholds = {"forces_uncertainty_max": 0.2}
    ethanol.calc = calc
    energy = ethanol.get_potential_energy()
    pickled = pickle.dumps(calc)
    assert len(pickled) < 20_000 < len(pickle.dumps(calc.checkpoint.parameters))
    twin = pickle.loads(pickled)
    assert twin.results["energy"] == energy and twin.thresholds == {"forces_uncertainty_max": 0.2}
    ethanol.rattle(0.1, seed=3)
    np.testing.assert_array_equal(twin.get_property("forces_members", ethanol), calc.get_property("forces_members", ethanol))
    changed = copy.deepcopy(calc)
    changed.posterior = replace(calc.posterior, noise=None, parameters={n: 2 * v for n, v in calc.posterior.parameters.items()})
    moved = ethanol.copy()
    moved.rattle(0.1, seed=4)
    whole = pickle.loads(pickle.dumps(changed))  # another posterior than that of the folder
    assert whole.get_potential_energy(moved) == changed.get_potential_energy(moved) != calc.get_potential_energy(moved)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="no model folder"):
        pickle.loads(pickled)
    assert pickle.loads(pickle.dumps(calc)).get_potential_energy(moved) == calc.get_potential_energy(moved)
    shutil.copytree("models/3bpa-llpr", folder)
    with pytest.raises(ValueError, match="changed since"):
        pickle.loads(pickled)


def test_float32_is_close(tiny_model, ethanol):
    ethanol.calc = RACECalculator(tiny_model)
    single = ethanol.copy()
    single.calc = RACECalculator(tiny_model, dtype="float32")
    assert single.get_potential_energy() == pytest.approx(ethanol.get_potential_energy(), abs=1e-5)
    assert single.get_forces() == pytest.approx(ethanol.get_forces(), abs=1e-5)
    assert single.get_forces().dtype == np.float64


def test_works_under_ase(tiny_model, ethanol, crystal):
    calc = RACECalculator(tiny_model)
    ethanol.calc = crystal.calc = calc
    VelocityVerlet(ethanol, 0.5 * fs).run(3)
    BFGS(FrechetCellFilter(crystal), logfile=None).run(steps=2)
    images = [ethanol.copy() for _ in range(3)]
    images[-1].rattle(0.1, seed=3)
    for image in images:
        image.calc = calc
    neb = NEB(images, allow_shared_calculator=True)
    neb.interpolate()
    FIRE(neb, logfile=None).run(steps=2)


def test_one_atom_and_a_thousand(tiny_model):
    atom = Atoms("C", calculator=RACECalculator(tiny_model))
    assert np.isfinite(atom.get_potential_energy()) and not atom.get_forces().any()
    assert np.isfinite(atom.calc.results["forces_covariance"]).all()
    apart = Atoms("C2", positions=[[0, 0, 0], [50, 0, 0]], calculator=atom.calc)
    assert apart.get_potential_energy() == pytest.approx(2 * atom.get_potential_energy(), abs=1e-9)
    large = bulk("C", cubic=True) * (5, 5, 5)
    large.calc = RACECalculator(tiny_model, dtype="float32")
    assert large.get_forces() == pytest.approx(np.zeros((1000, 3)), abs=1e-4)


BAD = [
    (Atoms("Xe"), "does not know the element Xe"),
    (Atoms("H2", positions=[[0, 0, 0], [np.nan, 0, 0]]), "not finite"),
    (Atoms("H2", positions=[[0, 0, 0], [np.inf, 0, 0]]), "not finite"),
    (Atoms("H2", positions=[[0, 0, 0], [0, 0, 0]]), "one place"),
    (Atoms(), "no atoms"),
    (Atoms("H2", positions=[[0, 0, 0], [0, 0, 1e7]]), "blown up"),
    (Atoms("H2", positions=[[0, 0, 0], [0, 0, 1e7]], cell=[3, 3, 3], pbc=(1, 1, 0)), "blown up"),
    (Atoms("H", cell=[1e-3] * 3, pbc=True), "collapsed"),
    (Atoms("H", pbc=True), "vector is zero"),
]


@pytest.mark.parametrize("atoms,message", BAD)
def test_bad_structures(tiny_model, ethanol, atoms, message):
    calc = RACECalculator(tiny_model)
    calc.calculate(ethanol)
    bad = atoms.copy()
    bad.calc = calc
    for call in (lambda: calc.calculate(bad), lambda: calc.get_property("energy", bad), bad.get_forces):
        with pytest.raises(ValueError, match=message):
            call()
    ethanol.calc = calc  # the calculator is usable afterwards
    assert np.isfinite(ethanol.get_potential_energy())


def test_bad_arguments(tiny_model, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no model folder"):
        RACECalculator(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="config.json"):
        RACECalculator(tmp_path / "empty")
    with pytest.raises(ValueError, match="float64"):
        RACECalculator(tiny_model, dtype="float16")
    with pytest.raises(ValueError, match='use "cpu"'):
        RACECalculator(tiny_model, device="gpu")
    with pytest.raises(ValueError, match='use "cpu"'):
        RACECalculator(tiny_model, device="meta")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA GPU"):
        RACECalculator(tiny_model, device="cuda")
    calc = RACECalculator(tiny_model, device="cpu")
    with pytest.raises(ValueError, match="give atoms"):
        calc.prediction()
    with pytest.raises(ValueError, match="cannot change dtype"):
        calc.set(dtype="float32")


def test_kernels_and_tables_change_nothing_but_the_time(tiny_model, crystal):
    from race_calc.model.kernels.messages import why_not

    if why_not(torch.device("cpu")):
        pytest.skip(why_not(torch.device("cpu")))
    found = []
    for options in (dict(compile=False), dict(compile=True, tables=False), dict()):
        crystal.calc = RACECalculator(tiny_model, **options)
        crystal.get_stress()
        found.append(crystal.calc.results)
    plain, kernels, tables = found
    for name, value in plain.items():
        scale = np.abs(value).max()
        assert np.abs(kernels[name] - value).max() <= 1e-10 * scale, name
        assert np.abs(tables[name] - value).max() <= 1e-5 * scale, name


def test_compiling_where_it_cannot_be_done(tiny_model, monkeypatch):
    import race_calc.posterior.load as stack

    monkeypatch.setattr(stack, "why_not", lambda device: "race_calc has no compiled kernels")
    monkeypatch.setattr(stack, "kernels_usable", lambda device: False)
    with pytest.raises(RuntimeError, match="no compiled kernels"):
        RACECalculator(tiny_model, compile=True)
    assert not RACECalculator(tiny_model).posterior.kernels


def test_a_stress_that_is_not_there_costs_no_evaluation(tiny_model, ethanol, monkeypatch):
    ethanol.calc = RACECalculator(tiny_model)
    ethanol.get_potential_energy()
    monkeypatch.setattr(RACECalculator, "_raw", lambda self, atoms: pytest.fail("the model was evaluated again"))
    for get in (ethanol.get_stress, lambda: ethanol.calc.get_property("stress")):
        with pytest.raises(PropertyNotImplementedError, match="periodic cell with a volume"):
            get()
