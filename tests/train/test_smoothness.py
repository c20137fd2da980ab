import numpy as np
import pytest
import torch
from scipy.interpolate import make_interp_spline

from race_calc.model.config import ModelConfig
from race_calc.model.parameters import initialise
from race_calc.model.plan import make_plan
from race_calc.model.radial import bessel, perceptron
from race_calc.train.smoothness import roughness

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
    moved = {
        name: value if g is None else value - 1e-3 * g / g.norm()
        for (name, value), g in zip(parameters.items(), gradients)
    }
    assert roughness(moved, CONFIG) < before
