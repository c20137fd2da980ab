"""After a training every spread has the factor that its validation structures ask for."""

import numpy as np
import pytest
import torch
from small_run import write_run
from test_validate import prepared_run

from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.posterior.state import flatten, unflatten
from race_calc.train.config import load_config
from race_calc.train.finish import finish
from race_calc.train.loop import train
from race_calc.train.prepare import prepare
from race_calc.train.spreads import FEWEST, refitted
from race_calc.train.validate import DIMENSION, measure

CPU = torch.device("cpu")
ENOUGH = {"n": 8 + FEWEST, "data__validation": FEWEST}


@pytest.mark.parametrize(
    "changes",
    [{}, {"model__force_covariance": "cholesky"}, {"posterior": "shallow-ensemble"}, {"model__head": "energy"}],
    ids=["matrix-log", "cholesky", "shallow", "energy"],
)
def test_squares_are_as_large_as_said(tmp_path, changes):
    context, weights = prepared_run(tmp_path, **ENOUGH, **changes)
    (before,), (again, factors) = measure(context, weights), refitted(context, weights)
    (after,) = measure(context, again)
    for name, spread in after.spreads.items():
        quadratic = spread.quadratic
        np.testing.assert_allclose(
            2 * quadratic / DIMENSION[name], 1.0, rtol=0.1 if "cholesky" in str(changes) else 1e-3
        )  # off the diagonal its offset has no say
        assert len(factors[name]) == len(quadratic)
    assert (after.score < before.score).all()
    torch.testing.assert_close((after.energy, after.forces), (before.energy, before.forces))


def test_a_factor_of_an_exponential_is_found_at_once(tmp_path):
    context, weights = prepared_run(tmp_path, **ENOUGH)
    fitted, _ = refitted(context, weights)
    parameters = unflatten(fitted, context.shapes)
    wider = parameters | {"force_cov_offset": parameters["force_cov_offset"] + np.log(7.0)}
    back, factors = refitted(context, flatten(list(wider.values())))
    np.testing.assert_allclose(factors["force_cov"], 1 / 7, rtol=1e-4)
    torch.testing.assert_close(unflatten(back, context.shapes)["force_cov_offset"], parameters["force_cov_offset"])


def test_few_structures_tell_no_factor(tmp_path):
    context, weights = prepared_run(tmp_path)
    assert refitted(context, weights) == (weights, {})


def test_what_is_not_finite_stays(tmp_path):
    context, weights = prepared_run(tmp_path, **ENOUGH)
    broken = weights.clone()
    broken[0] = float("nan")
    again, factors = refitted(context, broken)
    assert factors["force_cov"][0] == 1.0 != factors["force_cov"][1] and torch.isfinite(again[1]).all()


@pytest.mark.parametrize("posterior", ["deep-ensemble", "llpr"])
def test_a_finished_model_has_them(tmp_path, posterior):
    config = load_config(write_run(tmp_path, posterior=posterior, members=4, model__baseline="none", **ENOUGH))
    prepared = prepare(config, tmp_path)
    trained = train(config, prepared, tmp_path / "out", CPU, resume=False)
    finish(config, prepared, trained, tmp_path / "out", CPU)
    checkpoint = load_checkpoint(tmp_path / "out")
    assert set(checkpoint.training["spread_factors"]) == {"energy_var", "force_cov"}
    stack, squares = load_stack(checkpoint, torch.float64, CPU), []
    for example in prepared.validation:
        p = stack.predict(example.graph)
        d = p.forces - np.asarray(example.forces)
        squares.append(np.einsum("ni,nij,nj->n", d, np.linalg.inv(p.forces_covariance_aleatoric), d))
    if posterior == "llpr":  # one model, one covariance
        assert np.mean(squares) / 3 == pytest.approx(1.0, rel=0.02)
    else:  # of the mean, which is better than the members
        assert 0.3 < np.mean(squares) / 3 < 1.1


@pytest.mark.parametrize("posterior", ["swag", "ivon"])
def test_draws_around_other_weights_keep_theirs(tmp_path, posterior):
    config = load_config(write_run(tmp_path, posterior=posterior, members=4, training__epochs=8, **ENOUGH))
    prepared = prepare(config, tmp_path)
    finish(config, prepared, train(config, prepared, tmp_path / "out", CPU, resume=False), tmp_path / "out", CPU)
    assert "spread_factors" not in load_checkpoint(tmp_path / "out").training
