import numpy as np
import pytest
import torch
from scipy.interpolate import make_interp_spline
from small_run import write_run

from race_calc.model.config import ModelConfig
from race_calc.model.parameters import initialise
from race_calc.model.plan import make_plan
from race_calc.model.radial import bessel, perceptron
from race_calc.posterior.state import flatten
from race_calc.train.config import load_config
from race_calc.train.context import context_of
from race_calc.train.loop import Part, gradients_of
from race_calc.train.prepare import prepare
from race_calc.train.smoothness import _grid, roughness

CONFIG = ModelConfig(hidden_irreps="4x0e+4x1o+4x2e", layers=2, features_dim=4, radial_hidden=(8, 8), cutoff=4.0, n_bessel=2)
OFFSETS = {"energy_var_offset": 0.0, "force_cov_offset": 0.0}


def stack(seeds):
    return initialise(make_plan(CONFIG, 2), seeds, OFFSETS)


def test_mean_square_of_the_second_derivative():
    """Against the exact second derivative of a fine spline; two Bessel functions bend slowly on the spacing of 0.1 Å."""
    parameters = stack([1, 2])
    r = np.linspace(0.3, 4.0, 3000)
    basis = torch.from_numpy(bessel(r / 4.0, 2)[0]).expand(2, -1, -1)
    expected = np.zeros(2)
    for i in range(2):
        values = perceptron(basis, [parameters[f"layers.{i}.radial.{k}"] for k in range(3)]).numpy()
        curvature = make_interp_spline(r, values, k=5, axis=1).derivative(2)(np.linspace(0.5, 4.0, 1000))
        expected += (curvature**2).mean((1, 2))
    np.testing.assert_allclose(roughness(parameters, CONFIG), expected, rtol=0.1)


def test_each_member_has_its_own():
    both = roughness(stack([1, 2]), CONFIG)
    for m, seed in enumerate((1, 2)):
        assert roughness(stack([seed]), CONFIG).item() == pytest.approx(both[m].item(), rel=1e-12)
    assert both.dtype == torch.float64 and both[0] != both[1]


def test_its_gradient_smooths():
    parameters = {name: value.requires_grad_() for name, value in stack([1]).items()}
    before = roughness(parameters, CONFIG)
    gradients = torch.autograd.grad(before.sum(), list(parameters.values()), allow_unused=True)
    touched = {name for name, g in zip(parameters, gradients) if g is not None}
    assert touched == {f"layers.{i}.radial.{k}" for i in range(2) for k in range(3)}
    moved = {name: value if g is None else value - 1e-3 * g / g.norm() for (name, value), g in zip(parameters.items(), gradients)}
    assert roughness(moved, CONFIG) < before


@pytest.mark.parametrize(
    "head, recipe, used", [("joint", "joint", True), ("joint", "detached", False), ("mse", "joint", False), ("joint", "beta-nll", False)]
)
def test_the_loss_has_it_where_the_mean_learns_from_the_likelihood(tmp_path, head, recipe, used):
    found = []
    for smoothness in (0.0, 0.5):
        path = write_run(tmp_path, model__head=head, training__recipe=recipe, training__smoothness=smoothness)
        config = load_config(path)
        prepared = prepare(config, tmp_path)
        context = context_of(config, prepared, torch.device("cpu"))
        weights = flatten(list(prepared.parameters.values()))
        found.append(gradients_of(context, weights, [Part(*context.batch(list(prepared.train), torch.float64))]))
    leaves = {name: value.requires_grad_() for name, value in prepared.parameters.items()}
    prior = roughness(leaves, config.model)
    slopes = torch.autograd.grad(prior.sum(), list(leaves.values()), materialize_grads=True, allow_unused=True)
    factor = 0.5 if used else 0.0
    torch.testing.assert_close(found[1][0] - found[0][0], factor * prior.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found[1][1] - found[0][1], factor * flatten(slopes), rtol=1e-7, atol=1e-7)


def test_a_cutoff_below_the_spacing():
    config = ModelConfig(hidden_irreps="4x0e+4x1o+4x2e", layers=1, features_dim=4, radial_hidden=(8,), cutoff=0.15)
    assert torch.isfinite(roughness(initialise(make_plan(config, 2), [1], OFFSETS), config)).all()


def test_the_grid_reaches_from_half_an_angstrom_to_the_cutoff():
    """At a tenth of an Å; eight points at least, and for short cutoffs from half of them."""
    for cutoff, points, spacing in ((4.5, 41, 0.1), (4.52, 41, 4.02 / 40), (0.8, 8, 0.4 / 7)):
        basis, found = _grid(cutoff, 5)
        assert basis.shape == (points, 5) and found == pytest.approx(spacing)
        np.testing.assert_allclose(basis[-2], bessel(np.array([(cutoff - spacing) / cutoff]), 5)[0][0])
