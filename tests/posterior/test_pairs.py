"""LLPR: pairs of last layers are evaluated once, and with 2L of them the force covariances are the closed form."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from race_calc.data.graph import collate, from_atoms
from race_calc.data.references import References
from race_calc.model.baseline import baseline_of
from race_calc.model.config import ModelConfig
from race_calc.model.layout import Numerics
from race_calc.model.parameters import expanded, initialise, is_last_layer, n_members
from race_calc.model.plan import make_plan
from race_calc.model.race import Race, evaluate, layout_of
from race_calc.posterior import llpr
from race_calc.posterior.checkpoint import Checkpoint
from race_calc.posterior.last_layer import with_last_layers
from race_calc.posterior.load import load_stack
from race_calc.posterior.pairs import foldable
from race_calc.posterior.stack import StackPosterior

CPU = torch.device("cpu")
SIZE = 128  # last-layer weights of two layers
PLAN = make_plan(ModelConfig(hidden_irreps="4x0e+4x1o+4x2e", layers=2, features_dim=4, radial_hidden=(8,), cutoff=4.0), 3)
ONE = initialise(PLAN, [5], {"energy_var_offset": -3.0, "force_cov_offset": -2.0})
FACTOR = 0.1 * torch.eye(SIZE, dtype=torch.float64) + 0.01 * torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(1)).triu()
MEAN = torch.cat([value[0, :, 0] for name, value in ONE.items() if is_last_layer(name)])
FIT = llpr.LastLayerFit(MEAN, FACTOR, 1.0)


def checkpoint_of(members, seed=0):
    model, references = Race(PLAN, (1, 6, 8), 0.5, 6.0), References((1, 6, 8), (-1.0, -2.0, -3.0), 0.1, 0.5)
    parameters = with_last_layers(ONE, llpr.sample(FIT, members, seed))
    return Checkpoint(model, references, parameters, "llpr", last_layer=FIT.covariance.numpy())


def predict(checkpoint, *structures, **options):
    stack = load_stack(checkpoint, torch.float64, CPU, tables=False, **options)
    return stack.predict(collate([from_atoms(atoms, 4.0) for atoms in structures]))


def every_set(checkpoint):
    """Each set evaluated for itself, none derived from its partner."""
    return StackPosterior(
        checkpoint.model,
        checkpoint.references,
        expanded(checkpoint.parameters),
        last_layer=checkpoint.last_layer,
        paired=True,
        baseline=baseline_of("zbl", 4.0),
    )


def rattled(name, seed=3):
    atoms = molecule(name)
    atoms.rattle(0.1, seed=seed)
    return atoms


def close(found, expected, rtol=1e-9):
    assert np.abs(found - expected).max() <= rtol * np.abs(expected).max()


@pytest.fixture(scope="module")
def whole():
    return checkpoint_of(2 * SIZE)


@pytest.mark.parametrize("compile", [None, False])
def test_half_of_the_sets_give_what_all_of_them_give(compile):
    atoms = rattled("CH3CH2OH")
    atoms.set_cell(7 * np.eye(3))
    atoms.pbc = True
    checkpoint = checkpoint_of(6)
    stack = load_stack(checkpoint, torch.float64, CPU, compile, tables=False)
    assert (stack.members, n_members(stack.parameters)) == (6, 4)
    found, expected = (one.predict(from_atoms(atoms, 4.0)) for one in (stack, every_set(checkpoint)))
    assert found.available == expected.available and found.n_members == 6
    for name, value in vars(expected).items():
        if isinstance(value, np.ndarray) and value.dtype == float:
            np.testing.assert_allclose(getattr(found, name), value, rtol=1e-8, atol=1e-10, err_msg=name)


def test_only_sets_in_pairs_with_one_head_are_folded():
    sets = checkpoint_of(6).parameters
    last = "layers.1.readout.out"
    assert foldable(sets) and not foldable(expanded(sets))
    for row, column in ((2, 0), (2, 1)):
        changed = sets[last].clone()
        changed[row, 5, column] += 0.01
        assert not foldable(sets | {last: changed})
    assert not foldable({name: value[:5] if is_last_layer(name) else value for name, value in sets.items()})
    single = {name: value.float() for name, value in sets.items()}  # as a trained model is stored
    assert foldable(single)


def test_sets_that_do_not_mirror_each_other_are_all_evaluated():
    checkpoint = checkpoint_of(6)
    sets = dict(checkpoint.parameters)
    sets["layers.1.readout.out"] = sets["layers.1.readout.out"].clone()
    sets["layers.1.readout.out"][3, :, 0] *= 1.5
    changed = replace(checkpoint, parameters=sets)
    atoms = rattled("CH3OH")
    expected = every_set(changed).predict(from_atoms(atoms, 4.0))
    close(predict(changed, atoms).forces_covariance_epistemic, expected.forces_covariance_epistemic)


def test_with_2l_sets_the_covariance_of_forces_is_the_closed_form(whole):
    """Cov(F) = G Cov(w) Gᵀ, G from central differences of the features of the last layer."""
    atoms, h = rattled("CH3OH"), 1e-4
    stack = every_set(whole)

    def features(moved):
        layout = layout_of(stack.model, from_atoms(moved, 4.0), Numerics(torch.float64, CPU))
        return evaluate(stack.model, {name: value[:1] for name, value in stack.parameters.items()}, layout).features[0].sum(0).numpy()

    expected = []
    for atom in range(len(atoms)):
        rows = []
        for axis in range(3):
            ends = []
            for sign in (-1, 1):
                moved = atoms.copy()
                moved.positions[atom, axis] += sign * h
                ends.append(features(moved))
            rows.append((ends[0] - ends[1]) / (2 * h))
        g = np.array(rows)
        expected.append(g @ whole.last_layer @ g.T)
    found = predict(whole, atoms)
    close(found.forces_covariance_epistemic, np.array(expected), 1e-6)
    assert found.closed_form == {"energy", "forces"} and found.independent_members("forces") is None


def test_few_sets_are_a_sample_and_tend_to_the_closed_form(whole):
    """The mean over many samples; of one, the trace of an atom is off by about √(2/3 / 3 pairs) of itself."""
    atoms = rattled("CH3OH")
    exact = predict(whole, atoms).forces_covariance_epistemic
    sample = predict(checkpoint_of(6), atoms)
    assert sample.closed_form == {"energy"} and sample.independent_members("forces") == 4
    assert np.abs(sample.forces_covariance_epistemic / exact - 1).max() > 0.05
    n = 100
    draws = [predict(checkpoint_of(6, seed), atoms).forces_covariance_epistemic for seed in range(n)]
    error = np.std(draws, axis=0) / n**0.5
    assert (np.abs(np.mean(draws, axis=0) - exact) < 5 * error).all()


def test_the_closed_form_does_not_depend_on_the_seed(whole):
    atoms = rattled("CH3OH")
    first, second = (predict(one, atoms).forces_covariance_epistemic for one in (whole, checkpoint_of(2 * SIZE, seed=1)))
    close(second, first)


def test_the_closed_form_rotates_with_the_structure(whole):
    atoms, q = rattled("CH3OH"), -Rotation.random(random_state=3).as_matrix()
    turned = atoms.copy()
    turned.positions = atoms.positions @ q.T
    a, b = (predict(whole, x).forces_covariance_epistemic for x in (atoms, turned))
    close(b, q @ a @ q.T)


def test_one_atom_and_a_batch(whole):
    """No neighbour, no force and no variance of one; in a batch every structure as alone."""
    atom, water, methanol = Atoms("O"), rattled("H2O"), rattled("CH3OH")
    batch = predict(whole, methanol, atom, water)
    alone = [predict(whole, one).forces_covariance_epistemic for one in (methanol, atom, water)]
    assert not alone[1].any()
    np.testing.assert_allclose(batch.forces_covariance_epistemic, np.concatenate(alone), rtol=1e-9, atol=1e-14)


def test_draws_are_orthogonal_and_as_long_as_the_gaussian_has_it():
    whitened = torch.linalg.solve_triangular(FACTOR, (llpr.sample(FIT, 20, 0)[0::2] - MEAN).T, upper=True).T
    torch.testing.assert_close(whitened @ whitened.T, SIZE * torch.eye(10, dtype=torch.float64), rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize("runs", [1, 2])
def test_the_covariance_of_2l_draws_is_the_gaussians(runs):
    deviations = llpr.sample(FIT, 2 * SIZE * runs, 4) - MEAN
    torch.testing.assert_close(deviations.T @ deviations / len(deviations), FIT.covariance, rtol=1e-9, atol=1e-11)
