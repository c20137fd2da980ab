"""Members one by one: their order, also on threads, and the parts of the uncertainty that come from them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from race_calc import RACECalculator
from race_calc.data.graph import from_atoms
from race_calc.model.hardware import member_map


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def ethanol():
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    return atoms


def diamond():
    atoms = bulk("C", a=3.6) * (3, 3, 3)  # 54 atoms: each thread takes members
    atoms.rattle(0.05, seed=2)
    return atoms


@pytest.mark.parametrize("compile", [None, False])
@pytest.mark.parametrize("structure", [ethanol, diamond])
def test_members_keep_the_order_of_the_checkpoint_on_two_threads(structure, compile, tiny_model, two_threads):
    atoms = structure()
    calc = RACECalculator(tiny_model, members=True, tables=False, compile=compile)
    energies, forces = calc.get_property("energies_members", atoms), calc.get_property("forces_members", atoms)
    stored = calc.checkpoint.parameters
    assert np.abs(energies[0] - energies[1]) > 1e-3
    for member in range(2):
        one = {name: value[member : member + 1].double() for name, value in stored.items()}
        alone = replace(calc.posterior, parameters=one).predict(from_atoms(atoms, calc.checkpoint.model.plan.config.cutoff))
        assert energies[member] == pytest.approx(alone.energy[0], abs=1e-8)
        np.testing.assert_allclose(forces[member], alone.forces, atol=1e-8)


def test_the_stress_of_every_member(tiny_model):
    atoms = diamond()
    results = RACECalculator(tiny_model, members=True)
    stress = results.get_property("stress_members", atoms)
    np.testing.assert_allclose(stress.mean(0), results.get_stress(atoms), atol=1e-12)
    spread = results.get_property("stress_covariance_epistemic", atoms)
    np.testing.assert_allclose(np.cov(stress.T, ddof=0), spread, atol=1e-12)


@pytest.mark.parametrize("members", [2, 5])
def test_blocks_of_members_are_joined_in_their_order(members, two_threads):
    stack = torch.arange(3.0 * members).reshape(members, 3)
    doubled, nothing = member_map(members, torch.device("cpu"))(lambda rows: (2 * rows, None), stack)
    assert torch.equal(doubled, 2 * stack) and nothing is None


def test_epistemic_results_are_the_spread_of_the_members(tiny_model):
    atoms = ethanol()
    calc = RACECalculator(tiny_model, members=True)
    atoms.calc = calc
    atoms.get_forces()
    results = calc.results
    assert results["energy_uncertainty_epistemic"] == pytest.approx(results["energies_members"].std())
    np.testing.assert_allclose(results["forces_uncertainty_epistemic"], results["forces_members"].std(axis=0), rtol=1e-7, atol=1e-12)
    for name in ("energy_uncertainty", "forces_uncertainty"):
        parts = [np.asarray(results[name + part]) for part in ("_epistemic", "_aleatoric")]
        np.testing.assert_allclose(np.square(results[name]), sum(part**2 for part in parts), rtol=1e-9)
        assert all((part < results[name]).all() for part in parts)
