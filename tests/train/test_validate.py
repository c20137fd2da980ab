"""The score that chooses the best weights: the likelihood after the best factor for each spread."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from small_run import write_run

from race_calc.model.likelihood import gain_of_factor, gaussian_nll
from race_calc.posterior.state import flatten, unflatten
from race_calc.train.config import load_config
from race_calc.train.context import Context, context_of
from race_calc.train.prepare import prepare
from race_calc.train.validate import validate

CPU = torch.device("cpu")


def test_the_gain_is_that_of_the_best_factor():
    rng = torch.Generator().manual_seed(0)
    quadratic, log_det = 5 * torch.rand(1, 9, generator=rng, dtype=torch.float64), torch.randn(1, 9, generator=rng, dtype=torch.float64)

    def with_factor(logarithm: float) -> float:
        return float(gaussian_nll(quadratic / np.exp(logarithm), log_det + 3 * logarithm, 3))

    best = minimize_scalar(with_factor, bracket=(-3, 3), tol=1e-12)
    gain = gain_of_factor(0.5 * quadratic.mean(1), 3)
    np.testing.assert_allclose(with_factor(0.0) - best.fun, float(gain), rtol=1e-9)


def prepared_run(folder, **changes) -> tuple[Context, torch.Tensor]:
    config = load_config(write_run(folder, **changes))
    prepared = prepare(config, folder)
    context = context_of(config, prepared, CPU)
    return context, flatten(list(prepared.parameters.values())).double()


@pytest.mark.parametrize("posterior, recipe", [("deep-ensemble", "joint"), ("deep-ensemble", "detached"), ("shallow-ensemble", "joint")])
def test_a_factor_of_the_force_covariance_does_not_move_the_score(tmp_path, posterior, recipe):
    context, weights = prepared_run(tmp_path, posterior=posterior, members=2, training__recipe=recipe)
    scores, errors = validate(context, weights)
    parameters = unflatten(weights, context.shapes)
    wider = parameters | {"force_cov_offset": parameters["force_cov_offset"] + 1.5}
    again, same = validate(context, flatten(list(wider.values())))
    noise = 1e-6 if posterior == "shallow-ensemble" else 1e-9  # there the noise of labels is a part of Σ and keeps its size
    torch.testing.assert_close(again, scores, rtol=noise, atol=1e-9)
    assert same == errors


def test_without_a_spread_of_forces_their_squared_errors_count(tmp_path):
    """Head `energy`: the score is that of the energies after its factor, and λ ½ |d|² of the forces."""
    context, weights = prepared_run(tmp_path, posterior="mve", members=1, model__head="energy")
    heavier = replace(context, training=context.training.model_copy(update={"force_weight": context.training.force_weight + 7}))
    scores, errors = validate(context, weights)
    more = validate(heavier, weights)[0] - scores
    expected = 7 * 1.5 * errors["force_rmse_eV_per_A"][0] ** 2
    np.testing.assert_allclose(more.numpy(), expected, rtol=1e-4)  # the errors are rounded to 1e-6


def test_without_any_spread_the_score_is_the_force_error(tmp_path):
    context, weights = prepared_run(tmp_path, posterior="mve", members=1, model__head="mse")
    scores, errors = validate(context, weights)
    np.testing.assert_allclose(scores.numpy(), errors["force_rmse_eV_per_A"], atol=1e-6)
