"""SWAG against direct sums over all iterates and against an exact Gaussian posterior."""

import math
from dataclasses import fields

import pytest
import torch

from race_calc.posterior import swag

SIGMAS = 5.0  # statistical bounds: standard errors that the largest of a few dozen numbers may be off


def iterates(count, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 3.0 + torch.randn(count, size, generator=generator, dtype=torch.float64)


def collected(thetas, rank):
    state = swag.empty(thetas[0], rank)
    for theta in thetas:
        state = swag.collect(state, theta)
    return state


def implied_covariance(state):
    """½ Σ_diag + D̂ᵀD̂/(2(K − 1)), written out."""
    held = min(int(state.count), len(state.deviations))
    rows = state.deviations[:held].double()
    return torch.diag(state.square - state.mean**2) / 2 + rows.T @ rows / (2 * (held - 1))


def covariance_error(found, expected, samples):
    """Largest difference in standard errors of a sample covariance of a Gaussian."""
    variances = expected.diagonal()
    return float(((found - expected).abs() / ((variances[:, None] * variances + expected**2) / samples).sqrt()).max())


def test_moments_are_those_of_all_iterates():
    thetas = iterates(25, 6)
    state = collected(thetas, rank=4)
    torch.testing.assert_close(state.mean, thetas.mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(state.square, thetas.square().mean(0), rtol=1e-13, atol=0)
    assert state.count.shape == () and int(state.count) == 25
    for field in fields(state):  # a state on disk has the same types from the start
        nothing, full = getattr(swag.empty(thetas[0].float(), 4), field.name), getattr(state, field.name)
        assert nothing.shape == full.shape and (nothing.dtype == full.dtype or field.name == "deviations"), field.name


@pytest.mark.parametrize("count", [2, 3, 7, 12])
def test_the_ring_keeps_the_last_deviations(count):
    rank, thetas = 4, iterates(count, 5)
    state = collected(thetas, rank)
    expected = torch.zeros(rank, 5, dtype=torch.float64)
    for i in range(max(0, count - rank), count):
        expected[i % rank] = thetas[i] - thetas[: i + 1].mean(0)  # from the mean that has taken θ in
    torch.testing.assert_close(state.deviations, expected, rtol=1e-12, atol=1e-14)


def test_moments_of_float32_weights_do_not_cancel():
    offset, spread = 100.0, 1e-3
    thetas = (offset + spread * iterates(50, 200)).float()
    state = collected(thetas, rank=3)
    assert state.mean.dtype == state.square.dtype == torch.float64 and state.deviations.dtype == torch.float32
    exact = thetas.double().var(0, correction=0)
    torch.testing.assert_close(state.square - state.mean**2, exact, rtol=1e-4, atol=0)
    assert swag.sample(state, 2, seed=0).dtype == torch.float32


@pytest.mark.parametrize("count", [3, 9])
def test_samples_have_the_mean_and_covariance_of_the_formula(count):
    state, n = collected(iterates(count, 5), rank=6), 200_000
    draws = swag.sample(state, n, seed=3)
    expected = implied_covariance(state)
    assert ((draws.mean(0) - state.mean).abs() / (expected.diagonal() / n).sqrt()).max() < SIGMAS
    assert covariance_error(draws.T.cov(), expected, n) < SIGMAS


def test_iterates_from_an_exact_posterior_give_it_back():
    """Bayesian linear regression. Independent iterates: the diagonal is Σ_dd, the rest half of Σ by construction."""
    size, count = 4, 1500
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(30, size, generator=generator, dtype=torch.float64)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    y = y + 0.3 * torch.randn(30, generator=generator, dtype=torch.float64)
    covariance = torch.linalg.inv(x.T @ x / 0.09 + 2.0 * torch.eye(size, dtype=torch.float64))
    mean = covariance @ x.T @ y / 0.09
    z = torch.randn(count, size, generator=generator, dtype=torch.float64)
    state = collected(mean + z @ torch.linalg.cholesky(covariance).T, rank=count)
    expected = torch.diag(covariance.diagonal()) / 2 + covariance / 2
    assert ((state.mean - mean).abs() / (covariance.diagonal() / count).sqrt()).max() < SIGMAS
    assert covariance_error(implied_covariance(state), expected, count) < SIGMAS
    draws = swag.sample(state, 20_000, seed=2)
    assert ((draws.mean(0) - mean).abs() / (covariance.diagonal() / count).sqrt()).max() < 2 * SIGMAS
    assert covariance_error(draws.T.cov(), expected, count) < 2 * SIGMAS


def test_a_state_taken_apart_and_put_together_goes_on_bit_by_bit():
    thetas = iterates(9, 5).float()
    whole = collected(thetas, rank=4)
    half = collected(thetas[:5], rank=4)
    resumed = swag.SwagState(**{field.name: getattr(half, field.name).clone() for field in fields(half)})
    for theta in thetas[5:]:
        resumed = swag.collect(resumed, theta)
    for field in fields(whole):
        assert torch.equal(getattr(whole, field.name), getattr(resumed, field.name)), field.name


def test_collecting_leaves_the_old_state_alone():
    state = collected(iterates(5, 3), rank=2)
    before = {field.name: getattr(state, field.name).clone() for field in fields(state)}
    swag.collect(state, torch.zeros(3, dtype=torch.float64))
    for name, tensor in before.items():
        assert torch.equal(getattr(state, name), tensor), name


def test_a_seed_gives_the_same_samples():
    state = collected(iterates(5, 3), rank=4)
    assert torch.equal(swag.sample(state, 7, seed=1), swag.sample(state, 7, seed=1))
    assert not torch.equal(swag.sample(state, 7, seed=1), swag.sample(state, 7, seed=2))


def test_what_cannot_be_is_an_error_with_advice():
    weights = torch.ones(3)
    with pytest.raises(ValueError, match="take 2 or more"):
        swag.empty(weights, 1)
    state = swag.empty(weights, 5)
    for _ in range(2):
        with pytest.raises(ValueError, match="needs 2 or more: train for more epochs"):
            swag.sample(state, 3, seed=0)
        state = swag.collect(state, weights)
    assert torch.equal(swag.sample(state, 3, seed=0), torch.ones(3, 3))  # two equal iterates: no spread
    with pytest.raises(ValueError, match="flat vector"):
        swag.collect(state, torch.ones(1))
    with pytest.raises(ValueError, match="not finite"):
        swag.collect(state, torch.tensor([1.0, math.nan, 0.0]))


def test_iterates_that_do_not_move_have_no_variance():
    """square − mean² may come out below zero by rounding, which has no root."""
    thetas = 0.1 * torch.arange(1, 51) * (1 + 1e-16 * iterates(7, 50))
    state = collected(thetas, 4)
    assert (state.square - state.mean.square()).min() < 0
    assert torch.isfinite(swag.sample(state, 3, seed=0)).all()
