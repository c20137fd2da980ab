"""The predicted covariance of the stress: a 6×6 matrix that turns with the structure, exact likelihood and derivatives."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.stress import full_3x3_to_voigt_6_stress
from scipy.spatial.transform import Rotation

from race_calc.data.graph import collate, from_atoms
from race_calc.model.config import ModelConfig
from race_calc.model.heads import initial_offsets
from race_calc.model.layout import Numerics
from race_calc.model.likelihood import STRESSES
from race_calc.model.mandel import mandel
from race_calc.model.outputs import Labels
from race_calc.model.parameters import initialise
from race_calc.model.plan import make_plan
from race_calc.model.race import Race, evaluate, layout_of
from race_calc.model.stress_covariance import STRESS_NOISE, StressCovariance, basis
from race_calc.uncertainty.mandel import WEIGHTS, mandel_covariance, voigt_covariance

CPU = torch.device("cpu")
SETTINGS = {"layers": 2, "features_dim": 4, "radial_hidden": (6,), "cutoff": 4.0, "head": "joint-stress"}


def stack(irreps="4x0e+4x1o+4x2e", correlation=2):
    plan = make_plan(ModelConfig(hidden_irreps=irreps, correlation=correlation, **SETTINGS), 1)
    return Race(plan, (14,), 1.0, 10.0), initialise(plan, [0, 1], initial_offsets(plan.outputs, 1e-2, 0.3, 2.0))


def crystal(seed=0, repeat=1) -> Atoms:
    atoms = bulk("Si", a=5.43) * (repeat, 1, 1)
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.05 * np.random.default_rng(seed).normal(size=(3, 3))), scale_atoms=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def outputs(model, parameters, *structures):
    graph = collate([from_atoms(atoms, 4.0) for atoms in structures])
    return evaluate(model, parameters, layout_of(model, graph, Numerics(torch.float64, CPU)), training=True)


def covariance(model, parameters, atoms) -> np.ndarray:
    """Of both members, Voigt (2, 6, 6)."""
    value = outputs(model, parameters, atoms).heads["stress_cov"].detach().numpy()
    return model.plan.output("stress_cov").members(value)[:, 0]


def turn_of_mandel(rotation: np.ndarray) -> np.ndarray:
    """R (6, 6) of Mandel vectors, column by column from what a rotation does to matrices."""
    columns = []
    for k in range(6):
        voigt = np.eye(6)[k] / np.array(WEIGHTS)
        xx, yy, zz, yz, xz, xy = voigt
        matrix = rotation @ np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) @ rotation.T
        columns.append(full_3x3_to_voigt_6_stress(matrix) * np.array(WEIGHTS))
    return np.array(columns).T


@pytest.mark.parametrize("reflected", [False, True])
@pytest.mark.parametrize("irreps", ["4x0e+4x1o+4x2e", "4x0e+4x0o+4x1o+4x1e+4x2e+4x2o"])
def test_it_turns_with_the_structure(irreps, reflected):
    model, parameters = stack(irreps)
    rotation = Rotation.random(rng=np.random.default_rng(4)).as_matrix() * (-1 if reflected else 1)
    atoms = crystal()
    turned = Atoms(atoms.numbers, atoms.positions @ rotation.T, cell=atoms.cell @ rotation.T, pbc=True)
    r = turn_of_mandel(rotation)
    np.testing.assert_allclose(r @ r.T, np.eye(6), atol=1e-14)
    before, after = (mandel_covariance(covariance(model, parameters, one)) for one in (atoms, turned))
    np.testing.assert_allclose(after, r @ before @ r.T, rtol=0, atol=1e-10 * np.abs(before).max())
    assert np.ptp(np.linalg.eigvalsh(before), axis=1).min() > 1e-3 * before.max()  # it is no multiple of one


def test_all_21_numbers_of_the_logarithm_can_be_anything():
    """Two scalars, two 2e and a 4e span the symmetric matrices."""
    scalars, mixed, second, pair = basis()
    parts = np.concatenate([scalars, mixed, second, pair.reshape(25, 6, 6)])
    assert np.allclose(parts, parts.swapaxes(1, 2), atol=1e-14)
    assert np.linalg.matrix_rank(parts.reshape(len(parts), 36), tol=1e-10) == 21


def test_a_cell_twice_as_large_has_half_the_variance():
    model, parameters = stack()
    one = crystal()
    np.testing.assert_allclose(covariance(model, parameters, one * (2, 1, 1)), covariance(model, parameters, one) / 2, rtol=1e-9)


def test_likelihood_is_that_of_six_numbers():
    model, parameters = stack()
    structures = [crystal(1), crystal(2, repeat=2), crystal(3)]
    found = outputs(model, parameters, *structures)
    rng = np.random.default_rng(0)
    stresses = 0.05 * rng.normal(size=(3, 3, 3))
    stresses = stresses + stresses.swapaxes(1, 2)
    volume = np.array([atoms.cell.volume for atoms in structures])
    virials = stresses * volume[:, None, None]
    virials[1] = np.nan  # this one has no label
    labels = Labels(torch.zeros(3), torch.zeros(8, 3), torch.as_tensor(virials), torch.as_tensor(volume))
    difference, value = STRESSES.with_spread(found, labels)
    nll = model.plan.output("stress_cov").nll(difference, value)
    expected = np.zeros(2)
    for b in (0, 2):
        for m, sigma in enumerate(covariance(model, parameters, structures[b])):
            d = full_3x3_to_voigt_6_stress(stresses[b] - found.virial[m, b].detach().numpy() / volume[b])
            log_det = np.linalg.slogdet(sigma)[1] + 2 * np.log(np.array(WEIGHTS)).sum()  # of Mandel vectors
            noise = STRESS_NOISE * np.trace(np.linalg.inv(sigma) / np.outer(WEIGHTS, WEIGHTS))
            expected[m] += 0.25 * (d @ np.linalg.solve(sigma, d) + noise + log_det)
    np.testing.assert_allclose(nll.detach().numpy(), expected, rtol=1e-8)
    assert STRESSES.count(labels) == 2


def test_derivatives_to_the_parameters_are_those_of_finite_differences():
    model, parameters = stack()
    labels = Labels(torch.zeros(1), torch.zeros(2, 3), 0.3 * torch.eye(3)[None].double(), torch.tensor([crystal().cell.volume]))

    def nll(changed):
        difference, value = STRESSES.with_spread(outputs(model, changed, crystal()), labels)
        return model.plan.output("stress_cov").nll(difference, value).sum()

    for name in ("stress_cov_offset", "layers.0.up.0e", "layers.1.readout.tensor", "layers.1.readout.out", "layers.0.radial.0"):
        leaf = parameters[name].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(nll(parameters | {name: leaf}), leaf)
        direction = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(1), dtype=leaf.dtype)
        ends = [float(nll(parameters | {name: parameters[name] + sign * 1e-5 * direction})) for sign in (-1, 1)]
        assert float((gradient * direction).sum()) == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-6, abs=1e-6), name


def test_without_a_volume_there_is_none():
    model, parameters = stack()
    value = outputs(model, parameters, Atoms("Si2", positions=[[0, 0, 0], [2.3, 0, 0]])).heads["stress_cov"].detach().numpy()
    assert np.isnan(StressCovariance().members(value)).all()


def test_mandel_keeps_lengths_and_voigt_comes_back():
    matrices = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrices = matrices + matrices.transpose(-1, -2)
    torch.testing.assert_close(mandel(matrices).square().sum(-1), matrices.square().sum((-1, -2)))
    vectors = np.random.default_rng(0).normal(size=(1000, 6))
    voigt = np.cov((vectors / np.array(WEIGHTS)).T)
    np.testing.assert_allclose(voigt_covariance(np.cov(vectors.T)), voigt, rtol=1e-12)
    np.testing.assert_allclose(mandel_covariance(voigt), np.cov(vectors.T), rtol=1e-12)
