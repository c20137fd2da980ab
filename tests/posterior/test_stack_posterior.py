"""Predictions of a whole stack rotate and reflect with the structure, for both force covariances."""

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from scipy.spatial.transform import Rotation

from race_calc.data.graph import from_atoms
from race_calc.data.references import References
from race_calc.model.compiled import why_not_compiled
from race_calc.model.config import ModelConfig
from race_calc.model.heads import FORCE_COVARIANCE
from race_calc.model.kernels.messages import why_not
from race_calc.model.parameters import initialise
from race_calc.model.plan import make_plan
from race_calc.model.race import Race, evaluate
from race_calc.posterior.checkpoint import Checkpoint, load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.posterior.stack import StackPosterior

VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


def posterior(force_covariance: str) -> StackPosterior:
    config = ModelConfig(
        hidden_irreps="4x0e+4x1o+4x1e+4x2e", layers=3, features_dim=4, radial_hidden=(8,), cutoff=4.0, force_covariance=force_covariance
    )
    plan = make_plan(config, 3)
    references = References((1, 6, 8), (-1.0, -2.0, -3.0), 0.1, 2.0)
    parameters = initialise(plan, [1, 2, 3], {"energy_var_offset": -3.0, "force_cov_offset": -2.0})
    return StackPosterior(Race(plan, (1, 6, 8), 2.0, 8.0), references, parameters)


def close(found, expected):
    assert np.abs(found - expected).max() <= 1e-10 * np.abs(expected).max()


@pytest.mark.parametrize("force_covariance", ["matrix-log", "cholesky"])
@pytest.mark.parametrize("kind", ["molecule", "crystal"])
def test_predictions_rotate_and_reflect(force_covariance, kind):
    atoms = molecule("CH3CH2OH") if kind == "molecule" else bulk("C", a=3.6)
    atoms.rattle(0.1, seed=4)
    q = -Rotation.random(random_state=3).as_matrix()
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ q.T)
    turned.positions = atoms.positions @ q.T
    stack = posterior(force_covariance)
    a, b = (stack.predict(from_atoms(x, 4.0)) for x in (atoms, turned))
    close(b.energy, a.energy)
    close(b.energy_variance, a.energy_variance)
    close(b.forces, a.forces @ q.T)
    close(b.forces_covariance_epistemic, q @ a.forces_covariance_epistemic @ q.T)
    if force_covariance == "matrix-log":
        close(b.forces_covariance, q @ a.forces_covariance @ q.T)
        assert np.abs(b.bald_forces - a.bald_forces).max() < 1e-9
    if kind == "crystal":
        full = np.zeros((3, 3))
        full[VOIGT] = a.stress[0]
        full = full + full.T - np.diag(np.diag(full))
        close(b.stress[0], (q @ full @ q.T)[VOIGT])
        trace = b.stress_covariance[0][:3, :3].sum(), a.stress_covariance[0][:3, :3].sum()
        assert trace[0] == pytest.approx(trace[1], rel=1e-9)


def test_float32_members_on_top_of_large_references():
    """References are added in float64: float32 resolves 2 meV at -17,660 eV, the sum must not."""
    stack = posterior("matrix-log")
    single = StackPosterior(
        stack.model, References((1, 6, 8), (-1e5, -1e6, -1e6), 0.0, 2.0), {k: v.float() for k, v in stack.parameters.items()}
    )
    graph = from_atoms(molecule("CH4"), 4.0)
    bare = stack.predict(graph).energy[0] - stack.references.reference_energy(graph.numbers)
    assert single.predict(graph).energy[0] - single.references.reference_energy(graph.numbers) == pytest.approx(bare, abs=1e-5)
    assert single.predict(graph).energy.dtype == np.float64 and torch.get_default_dtype() == torch.float32


def test_a_compiled_function_gets_one_padded_block():
    """What torch compiled takes the place of `evaluate`; its layout has the same number of blocks in every step."""
    stack, seen = posterior("matrix-log"), []

    def compiled(parameters, layout):
        seen.append(len(layout.blocks))
        return evaluate(stack.model, parameters, layout)

    atoms = molecule("CH3CH2OH")
    atoms.positions[-1] += 9.0  # an atom without neighbours
    found, plain = (s.predict(from_atoms(atoms, 4.0)) for s in (replace(stack, compiled=compiled), stack))
    assert seen == [1]
    close(found.forces, plain.forces)
    close(found.forces_covariance, plain.forces_covariance)


@pytest.mark.skipif(why_not_compiled() is not None, reason=str(why_not_compiled()))
def test_compile_on_a_gpu_is_torchs():
    """On a device that is no CPU, True compiles, None and False do not; no kernels are used."""
    stack = posterior("matrix-log")
    checkpoint = Checkpoint(stack.model, stack.references, stack.parameters, "deep-ensemble")
    for choice in (True, None, False):
        found = load_stack(checkpoint, torch.float32, torch.device("meta"), compile=choice)
        assert (found.compiled is not None) == (choice is True) and not found.kernels


def test_force_covariances_are_matrix_exponentials_and_squares():
    rng = np.random.default_rng(0)
    s = rng.normal(size=(2, 5, 3, 3))
    s = s + s.swapaxes(-1, -2)
    s[0, 0] = 0.3 * np.eye(3)  # equal eigenvalues
    expected = torch.linalg.matrix_exp(torch.from_numpy(s)).numpy()
    np.testing.assert_allclose(FORCE_COVARIANCE["matrix-log"].members(s), expected, rtol=1e-12, atol=1e-12 * expected.max())
    factor = np.tril(rng.normal(size=(2, 5, 3, 3)))
    squares = np.einsum("mnik,mnjk->mnij", factor, factor) + 1e-6 * np.eye(3)
    np.testing.assert_allclose(FORCE_COVARIANCE["cholesky"].members(factor), squares, rtol=1e-13)


def test_a_broken_covariance_is_nan_and_spoils_no_other():
    s = np.tile(np.diag([0.0, 1.0, 2.0]), (1, 4, 1, 1))
    s[0, 1, 0, 0], s[0, 2, 1, 2] = np.nan, np.inf
    s[0, 3] *= 1e6
    found = FORCE_COVARIANCE["matrix-log"].members(s)
    np.testing.assert_allclose(found[0, 0], np.diag(np.exp([0.0, 1.0, 2.0])), rtol=1e-14)
    assert np.isnan(found[0, 1]).all() and np.isnan(found[0, 2]).all()
    np.testing.assert_allclose(found[0, 3], np.diag([1.0, 1e6, 1e6]))  # (1,000 eV/Å)² at most


@pytest.mark.parametrize("name, energy, paired", [("llpr", None, True), ("laplace", 2, False)])
def test_what_a_spread_is_worth_in_independent_members(name, energy, paired):
    """The closed form of energies is no spread; draws of LLPR are pairs, those of Laplace independent."""
    checkpoint = load_checkpoint(Path(__file__).parents[1] / "old_checkpoints" / f"version-3-{name}")
    found = load_stack(checkpoint, torch.float64, torch.device("cpu")).predict(from_atoms(bulk("Cu", cubic=True), 4.0))
    assert (found.independent_members("energy"), found.paired) == (energy, paired)
    assert replace(found, n_members=16, closed_form=frozenset()).independent_members("forces") == (9 if paired else 16)


def test_with_other_parameters_there_is_no_step(tiny_model):
    """What is put in the place of parameters or model is what predicts; copies keep their step."""
    if why_not(torch.device("cpu")):
        pytest.skip(why_not(torch.device("cpu")))
    checkpoint = load_checkpoint(tiny_model)
    stack = load_stack(checkpoint, torch.float64, torch.device("cpu"))
    assert stack.step is not None and replace(stack, paired=True).step is stack.step
    for other in (copy.deepcopy(stack), pickle.loads(pickle.dumps(stack))):
        assert other.step is not None and replace(other, paired=True).step is other.step
    first = {name: value[:1] for name, value in stack.parameters.items()}
    assert replace(stack, parameters=first).step is None and replace(stack, model=replace(stack.model, scale=2.0)).step is None
    graph = from_atoms(molecule("CH3CH2OH"), 4.0)
    one, both = replace(stack, parameters=first).predict(graph), stack.predict(graph)
    assert one.energy == pytest.approx(both.energies_members[0], abs=1e-10)
