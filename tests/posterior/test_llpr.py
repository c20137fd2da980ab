"""Last-layer prediction rigidity against exact Bayesian linear regression and finite differences."""

import math

import pytest
import torch

from race_calc.posterior import llpr

SIGMAS = 5.0  # statistical bounds: standard errors that the largest of a few dozen numbers may be off


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_fit(size=4, seed=0):
    x = normal(3 * size, size, seed=seed)
    return llpr.fit(normal(size, seed=seed + 1), x.T @ x, 0.3, normal(6, size, seed=seed + 2), normal(6, seed=seed + 3))


@pytest.mark.parametrize("seed", range(3))
def test_with_unit_scale_it_is_bayesian_linear_regression(seed):
    """Structures of different sizes, and forces; the exact posterior by conditioning in the space of the data."""
    size, tau, energy_noise, force_noise = 6, 0.7, 0.02, 0.3
    atoms = torch.tensor([1.0, 3.0, 20.0, 7.0, 2.0, 9.0, 4.0], dtype=torch.float64)
    phi, g = normal(7, size, seed=seed), normal(5, 3, size, seed=seed + 10)
    precision = torch.einsum("bl,bk,b->lk", phi, phi, 1 / (atoms * energy_noise))
    precision = precision + torch.einsum("nal,nak->lk", g, g) / force_noise
    rows = torch.cat([phi, g.flatten(0, 1)])  # (7 + 15, L)
    noise = torch.cat([atoms * energy_noise, torch.full((15,), force_noise, dtype=torch.float64)])
    gain = torch.linalg.solve(rows @ rows.T / tau + noise.diag(), rows / tau)  # (22, L)
    exact = torch.eye(size, dtype=torch.float64) / tau - rows.T @ gain / tau
    errors = torch.einsum("bl,lk,bk->b", phi, exact, phi).sqrt()  # as large as expected: α² = 1
    fit = llpr.fit(normal(size), precision, tau, phi, errors)
    assert fit.scale == pytest.approx(1.0, rel=1e-10)
    torch.testing.assert_close(fit.covariance, exact, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(llpr.energy_variance(fit, phi), errors.square(), rtol=1e-10, atol=0)


def test_the_scale_makes_standardised_squares_one_on_the_validation_set():
    size = 5
    x, features, errors = normal(20, size), normal(9, size, seed=1), 3.0 * normal(9, seed=2)
    fit = llpr.fit(normal(size, seed=3), x.T @ x, 0.1, features, errors)
    assert float((errors.square() / llpr.energy_variance(fit, features)).mean()) == pytest.approx(1.0, rel=1e-12)
    inverse = torch.linalg.inv(x.T @ x + 0.1 * torch.eye(size, dtype=torch.float64))
    torch.testing.assert_close(fit.covariance, fit.scale * inverse, rtol=1e-10, atol=1e-12)


def toy_features(positions):
    """φ (4,) of atoms at positions (N, 3): nothing special, smooth, not symmetric in the components."""
    x, y, z = positions.unbind(1)
    return torch.stack([(x * y.sin()).sum(), (z * x).exp().sum(), (y - z**2).cos().prod(), (x + 2 * y + 3 * z).square().sum()])


def test_force_covariance_is_the_second_derivative_of_the_energy_covariance():
    """Cov(F_a, F_b) = ∂²/∂r_a∂r'_b φ(r)ᵀ Cov(w) φ(r'): central differences in both, G from autograd."""
    fit, positions = some_fit(), 0.5 * normal(3, 3, seed=7)
    gradients = -torch.autograd.functional.jacobian(toy_features, positions).permute(1, 2, 0)  # (N, 3, L)
    found = llpr.force_covariance(fit, gradients)
    assert found.shape == (3, 3, 3)
    step = 1e-4
    for atom in range(3):
        moved = torch.zeros(3, 4, dtype=torch.float64)  # difference of φ along each component
        for a in range(3):
            shift = torch.zeros(3, 3, dtype=torch.float64)
            shift[atom, a] = step
            moved[a] = (toy_features(positions + shift) - toy_features(positions - shift)) / (2 * step)
        torch.testing.assert_close(found[atom], moved @ fit.covariance @ moved.T, rtol=1e-6, atol=1e-7)


def test_energies_and_forces_of_sampled_weights_have_the_closed_form_variances():
    fit, n = some_fit(), 100_000
    features, gradients = normal(3, 4, seed=8), normal(2, 3, 4, seed=9)
    draws = llpr.sample(fit, n, seed=1)
    energies = draws @ features.T  # (n, B)
    variance = llpr.energy_variance(fit, features)
    assert ((energies.var(0) / variance - 1).abs() < SIGMAS * math.sqrt(2 / (n / 2))).all()  # n/2 are independent
    for atom, expected in zip(gradients, llpr.force_covariance(fit, gradients)):
        found, variances = (draws @ atom.T).T.cov(), expected.diagonal()
        error = ((variances[:, None] * variances + expected**2) / (n / 2)).sqrt()
        assert ((found - expected).abs() < SIGMAS * error).all()


def test_samples_come_in_pairs_around_the_mean():
    fit, n = some_fit(), 100_000
    draws = llpr.sample(fit, n, seed=2)
    torch.testing.assert_close((draws[0::2] + draws[1::2]) / 2, fit.mean.expand(n // 2, -1), rtol=0, atol=1e-14)
    torch.testing.assert_close(draws.mean(0), fit.mean, rtol=0, atol=1e-12)
    expected = fit.covariance
    error = ((expected.diagonal()[:, None] * expected.diagonal() + expected**2) / (n / 2)).sqrt()
    assert ((draws.T.cov() - expected).abs() < SIGMAS * error).all()
    assert torch.equal(draws, llpr.sample(fit, n, seed=2))
    assert not torch.equal(draws, llpr.sample(fit, n, seed=3))


def test_variances_do_not_go_below_zero_in_a_badly_conditioned_layer():
    spread = torch.logspace(0, 12, 8, dtype=torch.float64)
    turn = torch.linalg.qr(normal(8, 8))[0]
    precision = turn * spread @ turn.T
    fit = llpr.fit(normal(8), (precision + precision.T) / 2, 1e-3, normal(5, 8, seed=1), normal(5, seed=2))
    assert (llpr.energy_variance(fit, turn.T) >= 0).all()
    eigenvalues = torch.linalg.eigvalsh(llpr.force_covariance(fit, normal(50, 3, 8, seed=3)))
    assert (eigenvalues >= -1e-14 * eigenvalues[:, -1:]).all()


def test_float32_goes_in_and_comes_out():
    x = normal(12, 4).float()
    fit = llpr.fit(x[0], x.T @ x, 0.3, x[:5], x[:5, 0])
    assert fit.factor.dtype == torch.float64
    assert llpr.energy_variance(fit, x).dtype == llpr.sample(fit, 2, seed=0).dtype == torch.float32
    assert llpr.force_covariance(fit, x.view(4, 3, 4)).dtype == torch.float32


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(precision=-torch.eye(3)), "not positive definite at row 1.*larger regulariser"),
        (dict(precision=torch.full((3, 3), math.nan)), "precision is not finite"),
        (dict(precision=torch.eye(2)), "need \\(3, 3\\)"),
        (dict(validation_errors=torch.zeros(4)), "α² is 0"),
        (dict(validation_features=torch.zeros(4, 3)), "α² is inf"),
        (dict(validation_errors=torch.full((4,), math.inf)), "α² is inf"),
        (dict(validation_errors=torch.ones(1)), "one of each"),
        (dict(validation_features=torch.ones(0, 3), validation_errors=torch.ones(0)), "at least one"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fit_that_cannot_be_is_an_error_with_advice(change, message):
    good = dict(
        mean=torch.zeros(3), precision=torch.eye(3), regulariser=0.1, validation_features=torch.ones(4, 3), validation_errors=torch.ones(4)
    )
    with pytest.raises(ValueError, match=message):
        llpr.fit(**good | change)


@pytest.mark.parametrize("n", [-2, 0, 1, 5])
def test_samples_without_a_partner_are_an_error(n):
    with pytest.raises(ValueError, match="even number, 2 or more"):
        llpr.sample(some_fit(), n, seed=0)
