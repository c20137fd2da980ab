"""Likelihoods against SciPy, the weight λ, and the detached recipe."""

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from scipy.stats import multivariate_normal, norm

from race_calc.data.graph import collate, from_atoms
from race_calc.model.config import ModelConfig
from race_calc.model.heads import ENERGY_VARIANCE, FORCE_COVARIANCE, FORCE_NOISE, initial_offsets
from race_calc.model.layout import Numerics
from race_calc.model.likelihood import STRESSES, squared
from race_calc.model.outputs import Labels, Outputs
from race_calc.model.parameters import initialise
from race_calc.model.plan import make_plan
from race_calc.model.race import Race, evaluate, layout_of
from race_calc.posterior.given import Objective
from race_calc.posterior.ivon import likelihood
from race_calc.posterior.shallow import shallow_loss
from race_calc.train.config import TrainingConfig
from race_calc.train.losses import BETA, loss

M, N, B = 2, 7, 3
PLAN = {head: make_plan(ModelConfig(head=head), 2) for head in ("mse", "energy", "joint")}
MATRIX_LOG, CHOLESKY = FORCE_COVARIANCE["matrix-log"], FORCE_COVARIANCE["cholesky"]
JOINT = TrainingConfig(recipe="joint", energy_weight=1.0, force_weight=100.0)
DETACHED = TrainingConfig(recipe="detached", energy_weight=1.0, force_weight=100.0)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outputs_of(**given) -> Outputs:
    """Outputs with zero means where nothing is given."""
    zero = dict(
        energy=torch.zeros(M, B),
        atom_energy=torch.zeros(M, N),
        forces=torch.zeros(M, N, 3),
        virial=torch.zeros(M, B, 3, 3),
        features=torch.zeros(M, B, 1),
    )
    heads = {name: value for name, value in given.items() if name not in zero}
    return Outputs(**{name: given.get(name, value.double()) for name, value in zero.items()}, heads=heads)


def labels_of(**given) -> Labels:
    zero = dict(energy=torch.zeros(B), forces=torch.zeros(N, 3), virial=torch.zeros(B, 3, 3), volume=torch.ones(B))
    return Labels(**{name: given.get(name, value.double()) for name, value in zero.items()})


def halves(matrices: torch.Tensor) -> torch.Tensor:
    return matrices + matrices.transpose(-1, -2)


def symmetric(seed: int = 1) -> torch.Tensor:
    return halves(normal(M, N, 3, 3, seed=seed))


def test_energy_nll_is_that_of_scipy():
    d, variance = normal(M, B), normal(M, B, seed=1).exp()
    expected = -norm.logpdf(d, scale=variance.sqrt()).mean(1) - 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(ENERGY_VARIANCE.nll(d, variance), expected, rtol=1e-12)


@pytest.mark.parametrize("form", ["matrix-log", "cholesky"])
def test_force_nll_is_that_of_scipy(form):
    d, s = normal(M, N, 3), symmetric()
    if form == "matrix-log":
        value, covariance = s, torch.linalg.matrix_exp(s)
    else:
        factor = s.tril(-1) + torch.diag_embed(s.diagonal(dim1=-2, dim2=-1).exp())
        value = factor
        covariance = factor @ factor.transpose(-1, -2) + FORCE_NOISE * torch.eye(3)
    expected = [np.mean([-multivariate_normal.logpdf(d[m, i], cov=covariance[m, i]) for i in range(N)]) for m in range(M)]
    noise = 0.5 * noise_of(s).mean(1).numpy() if form == "matrix-log" else 0.0
    np.testing.assert_allclose(FORCE_COVARIANCE[form].nll(d, value), np.array(expected) - 1.5 * math.log(2 * math.pi) + noise, rtol=1e-9)


def test_the_likelihood_of_labels_that_are_zero_by_symmetry_ends_at_their_noise():
    """d = 0 along one axis: Σ = d dᵀ + noise is the best, and nothing runs off."""
    d = torch.tensor([0.03, 0.0, -0.02]).double().expand(M, N, 3)
    best = torch.einsum("i,j->ij", d[0, 0], d[0, 0]) + FORCE_NOISE * torch.eye(3)
    values, axes = torch.linalg.eigh(best.double())
    s = ((axes * values.log()) @ axes.T).expand(M, N, 3, 3).clone().requires_grad_()
    gradient = torch.autograd.grad(MATRIX_LOG.nll(d, s).sum(), s)[0]
    assert gradient.abs().max() < 1e-8
    assert all(MATRIX_LOG.nll(d, s + shift * torch.eye(3)).sum() > MATRIX_LOG.nll(d, s).sum() for shift in (-0.5, 0.5, -30.0))


def noise_of(log_cov: torch.Tensor) -> torch.Tensor:
    """What the noise of labels adds to dᵀ Σ⁻¹ d."""
    return FORCE_NOISE * torch.linalg.matrix_exp(-log_cov).diagonal(dim1=-2, dim2=-1).sum(-1)


def test_unit_covariances_give_the_mse():
    """NLL_JEF with Σ = 1 is NLL_E, with σ² = 1 too it is the weighted MSE."""
    means = dict(energy=normal(M, B), forces=normal(M, N, 3, seed=1))
    labels = labels_of(energy=normal(B, seed=2), forces=normal(N, 3, seed=3))
    ones, zeros = torch.ones(M, B).double(), torch.zeros(M, N, 3, 3).double()
    joint, variance = outputs_of(**means, energy_var=ones, force_cov=zeros), normal(M, B, seed=4).exp()
    mse = loss(outputs_of(**means), labels, PLAN["mse"], JOINT)
    by_hand = 0.5 * ((labels.energy - means["energy"]) ** 2).mean(1)
    by_hand = by_hand + 100 * 0.5 * ((labels.forces - means["forces"]) ** 2).sum(-1).mean(1)
    torch.testing.assert_close(mse, by_hand)
    torch.testing.assert_close(loss(joint, labels, PLAN["joint"], JOINT), mse + 100 * 1.5 * FORCE_NOISE)
    torch.testing.assert_close(loss(joint, labels, PLAN["energy"], JOINT), mse)
    joint = outputs_of(**means, energy_var=variance, force_cov=zeros)
    energy = loss(joint, labels, PLAN["energy"], JOINT)
    torch.testing.assert_close(loss(joint, labels, PLAN["joint"], JOINT), energy + 100 * 1.5 * FORCE_NOISE)


@pytest.mark.parametrize("training", [JOINT, DETACHED], ids=["joint", "detached"])
@pytest.mark.parametrize("weight", [0.01, 1.0, 100.0])
def test_weights_do_not_move_the_optimum_of_a_variance(training, weight):
    """The best free log-variance is that of the mean squared residual, for λ = 100 as for 1."""
    training = training.model_copy(update={"force_weight": weight, "energy_weight": weight})
    labels = labels_of(energy=normal(B, seed=2), forces=normal(N, 3, seed=3))
    scatter = torch.einsum("ni,nj->ij", labels.forces, labels.forces) / N + FORCE_NOISE * torch.eye(3)
    values, vectors = torch.linalg.eigh(scatter)
    log_cov = (vectors * values.log()) @ vectors.T
    log_var = (labels.energy**2).mean().log()

    def gradients(shift: float) -> tuple[torch.Tensor, torch.Tensor]:
        free = [(x + shift).clone().requires_grad_() for x in (log_cov, log_var)]
        outputs = outputs_of(force_cov=free[0].expand(M, N, 3, 3), energy_var=free[1].exp().expand(M, B))
        return torch.autograd.grad(loss(outputs, labels, PLAN["joint"], training).sum(), free)

    for gradient, reference in zip(gradients(0.0), gradients(0.1)):
        assert gradient.abs().max() < 1e-12 * weight
        assert reference.abs().max() > 1e-3 * weight


@pytest.mark.parametrize("s", [-6.0, 0.0, 3.0])
def test_gradient_is_finite_where_the_eigenvalues_are_equal(s):
    log_cov = (s * torch.eye(3).double()).expand(M, N, 3, 3).clone().requires_grad_()
    d = normal(M, N, 3)
    gradient = torch.autograd.grad(MATRIX_LOG.nll(d, log_cov).sum(), log_cov)[0]
    outer = torch.einsum("mni,mnj->mnij", d, d) + FORCE_NOISE * torch.eye(3)  # closed form: ½ (1 - e^{-s} (d dᵀ + noise)) / N
    torch.testing.assert_close(gradient, 0.5 * (torch.eye(3) - math.exp(-s) * outer) / N, rtol=1e-10, atol=1e-12)


def test_stress_counts_only_where_it_is_known():
    virial, labels = halves(normal(M, B, 3, 3)), halves(normal(B, 3, 3, seed=1))
    labels[1] = float("nan")
    volume = torch.tensor([2.0, 3.0, 0.0]).double()
    outputs = outputs_of(virial=virial)
    expected = 0.5 * (((labels[0] - virial[:, 0]) / 2.0 / 0.01) ** 2).sum((-1, -2))  # in units of 0.01 eV/Å³
    torch.testing.assert_close(STRESSES.squares(outputs, labels_of(virial=labels, volume=volume)), expected)
    none = STRESSES.squares(outputs, labels_of(virial=torch.full((B, 3, 3), float("nan")).double()))
    assert torch.equal(none, torch.zeros(M).double())
    weighted = JOINT.model_copy(update={"stress_weight": 7.0})
    total = loss(outputs, labels_of(virial=labels, volume=volume), PLAN["mse"], weighted)
    torch.testing.assert_close(total, 7 * expected)


def test_squared_is_a_mean_over_all_but_members():
    torch.testing.assert_close(squared(torch.full((2, 5, 3), 2.0)), torch.full((2,), 6.0))


# ---- the recipes on a whole model -------------------------------------------------------------------

HEADS = ("offset", "readout.gates", "readout.gated", "readout.tensor")


@pytest.fixture(scope="module")
def case():
    """A joint model of two members with labels on a molecule and a crystal."""
    config = ModelConfig(hidden_irreps="4x0e+3x1o+3x2e", l_max=2, layers=3, features_dim=5, radial_hidden=(6,), cutoff=4.0)
    model = Race(make_plan(config, 2), (1, 8), 1.0, 5.0)
    parameters = initialise(model.plan, [0, 1], initial_offsets(model.plan.outputs, 1e-2, 0.1))
    parameters = {name: value.requires_grad_() for name, value in parameters.items()}
    water = molecule("H2O")
    water.rattle(0.05, seed=0)
    crystal = Atoms("OH", positions=[[0, 0, 0], [0.9, 0.4, 0.1]], cell=[[3, 0, 0], [0.5, 3.1, 0], [0, 0.2, 2.9]], pbc=True)
    graph = collate([from_atoms(water, 4.0), from_atoms(crystal, 4.0)])
    layout = layout_of(model, graph, Numerics(torch.float64, torch.device("cpu")))
    labels = Labels(normal(2), normal(5, 3, seed=1), normal(2, 3, 3, seed=2), torch.as_tensor(graph.volume))
    return model, parameters, layout, labels


def gradients(case, recipe: str, head: str, **weights) -> dict[str, torch.Tensor]:
    """Gradient of the loss to every parameter, zero where it does not depend on it."""
    model, parameters, layout, labels = case
    training = TrainingConfig(recipe=recipe, stress_weight=3.0, **weights)
    outputs = evaluate(model, parameters, layout, training=True, detached=recipe == "detached")
    total = loss(outputs, labels, PLAN[head], training).sum()
    return dict(zip(parameters, torch.autograd.grad(total, list(parameters.values()), materialize_grads=True)))


def split_heads(values: dict[str, torch.Tensor]) -> tuple[dict, dict]:
    """What produces the energy, and what only the variance heads use."""
    mean, heads = {}, {}
    for name, value in values.items():
        if name.endswith("readout.out"):
            mean[name], heads[name] = value[..., :1], value[..., 1:]
        else:
            (heads if any(word in name for word in HEADS) else mean)[name] = value
    return mean, heads


def test_detached_recipe_trains_the_mean_as_the_mse_does(case):
    """Exactly the gradients of the squared error, whatever the variance heads say."""
    mse, unused = split_heads(gradients(case, "joint", "mse"))
    mean, heads = split_heads(gradients(case, "detached", "joint"))
    assert mse.keys() == mean.keys() and len(mean) > 20
    for name in mse:
        torch.testing.assert_close(mean[name], mse[name], rtol=1e-11, atol=1e-14, msg=name)
    assert all(value.count_nonzero() == 0 for value in unused.values())
    assert all(value.abs().max() > 1e-9 for value in heads.values())


def test_detached_recipe_trains_the_heads_as_the_joint_one_does(case):
    """Same likelihood, so the same gradients to the heads' own parameters."""
    _, detached = split_heads(gradients(case, "detached", "joint"))
    mean, joint = split_heads(gradients(case, "joint", "joint"))
    for name in joint:
        torch.testing.assert_close(detached[name], joint[name], rtol=1e-10, atol=1e-13, msg=name)
    mse, _ = split_heads(gradients(case, "joint", "mse"))
    assert any((mean[name] - mse[name]).abs().max() > 1e-3 for name in mse)  # the joint recipe moves the mean


def test_members_have_their_own_loss(case):
    model, parameters, layout, labels = case
    outputs = evaluate(model, parameters, layout, training=True, detached=True)
    losses = loss(outputs, labels, PLAN["joint"], DETACHED)
    assert losses.shape == (2,)
    wrt = torch.autograd.grad(losses[0], list(parameters.values()), materialize_grads=True)
    assert all(gradient[1].count_nonzero() == 0 for gradient in wrt)


def test_factors_that_cannot_be_decomposed_give_nan_for_their_member_only():
    """A bad member of the `cholesky` head is skipped by the loop; it must not end the run of the others."""
    factor = torch.eye(3, dtype=torch.float32).expand(3, 2, 3, 3).clone()
    factor[0] = float("nan")
    factor[1] = 1e4 * torch.tensor([[1.0, 0, 0], [1, 1e-9, 0], [1, 1, 1e-9]])
    values = CHOLESKY.nll(torch.ones(3, 2, 3), factor)
    assert torch.isnan(values).tolist() == [True, True, False]


def test_beta_nll_weights_each_term_by_its_variance_and_keeps_its_minimum():
    """NLL · ⌊σ²⌋^β and NLL · ⌊det Σ⌋^(β/3); no gradient through the weight, so ∂/∂μ of a term is -d σ^(2β - 2)."""
    d, variance = normal(M, B).requires_grad_(), normal(M, B, seed=1).exp()
    value = ENERGY_VARIANCE.nll(d, variance, BETA)
    each = 0.5 * (d**2 / variance + variance.log())
    torch.testing.assert_close(value, (each * variance.sqrt()).mean(1))
    (slope,) = torch.autograd.grad(value.sum(), d)
    torch.testing.assert_close(slope, (d / variance.sqrt()).detach() / B)
    free = variance.log().requires_grad_()
    (at_optimum,) = torch.autograd.grad(ENERGY_VARIANCE.nll(free.detach().exp().sqrt(), free.exp(), BETA).sum(), free)
    assert at_optimum.abs().max() < 1e-12  # σ² = d² is still where the derivative to log σ² vanishes
    s = symmetric()
    f = normal(M, N, 3)
    whole = 0.5 * (torch.einsum("mni,mnij,mnj->mn", f, torch.linalg.matrix_exp(-s), f) + noise_of(s) + s.diagonal(dim1=-2, dim2=-1).sum(-1))
    expected = (whole * torch.linalg.det(torch.linalg.matrix_exp(s)) ** (BETA / 3)).mean(1)
    torch.testing.assert_close(MATRIX_LOG.nll(f, s, BETA), expected, rtol=1e-9, atol=1e-12)
    training = JOINT.model_copy(update={"recipe": "beta-nll"})
    outputs, labels = outputs_of(energy_var=variance, force_cov=s), labels_of(energy=normal(B, seed=4), forces=normal(N, 3, seed=5))
    parts = ENERGY_VARIANCE.nll(labels.energy - outputs.energy, variance, BETA) + 100 * MATRIX_LOG.nll(
        labels.forces - outputs.forces, s, BETA
    )
    torch.testing.assert_close(loss(outputs, labels, PLAN["joint"], training), parts)


def test_likelihood_is_the_sum_over_a_structure():
    """SciPy's densities of all energies and forces, per structure, without the constants."""
    variance, s = normal(M, B, seed=1).exp(), symmetric()
    outputs = outputs_of(energy_var=variance, force_cov=s)
    labels = labels_of(energy=normal(B, seed=2), forces=normal(N, 3, seed=3))
    for m in range(M):
        total = -sum(norm.logpdf(labels.energy[b], scale=variance[m, b].sqrt()) for b in range(B))
        total -= sum(multivariate_normal.logpdf(labels.forces[i], cov=torch.linalg.matrix_exp(s[m, i]).numpy()) for i in range(N))
        total += 0.5 * float(noise_of(s)[m].sum())
        constant = 0.5 * math.log(2 * math.pi) * (B + 3 * N)
        assert likelihood(outputs, labels, PLAN["joint"])[m].item() == pytest.approx((total - constant) / B, rel=1e-10)


def test_shallow_loss_is_the_likelihood_of_the_mixture():
    """Mean and variance of all last layers for the energy, the mean covariance for the forces of the mean energy."""
    energy, variance, s = normal(M, B, seed=6), normal(M, B, seed=1).exp(), symmetric()
    forces = normal(1, N, 3, seed=7)
    outputs = outputs_of(energy=energy, energy_var=variance, force_cov=s, forces=forces, virial=torch.zeros(1, B, 3, 3).double())
    labels = labels_of(energy=normal(B, seed=2), forces=normal(N, 3, seed=3))
    total = energy.var(0, correction=0) + variance.mean(0)
    e = -norm.logpdf(labels.energy, loc=energy.mean(0), scale=total.sqrt()).mean() - 0.5 * math.log(2 * math.pi)
    mean = (torch.linalg.matrix_exp(s).mean(0) + FORCE_NOISE * torch.eye(3)).numpy()
    f = -np.mean([multivariate_normal.logpdf(labels.forces[i], forces[0, i], mean[i]) for i in range(N)]) - 1.5 * math.log(2 * math.pi)
    assert shallow_loss(outputs, labels, Objective(None, PLAN["joint"], 1.0, 100.0, 0.0)).tolist() == pytest.approx([e + 100 * f], rel=1e-9)
    squares = float((labels.forces - forces).pow(2).sum(-1).mean() / 2)
    assert shallow_loss(outputs, labels, Objective(None, PLAN["energy"], 1.0, 100.0, 0.0)).tolist() == pytest.approx(
        [e + 100 * squares], rel=1e-9
    )


def test_shallow_loss_with_stress():
    """The forces of the mean energy give one stress; its squared error comes on top with its weight."""
    outputs = outputs_of(
        energy_var=torch.ones(M, B).double(), force_cov=symmetric(), forces=normal(1, N, 3), virial=halves(normal(1, B, 3, 3))
    )
    labels = labels_of(virial=halves(normal(B, 3, 3, seed=3)), volume=torch.full((B,), 2.0).double())
    without, with_stress = (shallow_loss(outputs, labels, Objective(None, PLAN["joint"], 1.0, 100.0, weight)) for weight in (0.0, 7.0))
    expected = 7.0 * 0.5 * ((labels.virial - outputs.virial) / 2.0 / 0.01).square().sum((-1, -2)).mean(1)
    torch.testing.assert_close(with_stress - without, expected)
