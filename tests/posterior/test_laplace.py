"""Diagonal Laplace against exact Bayesian linear regression, where orthogonal columns make the diagonal exact."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from race_calc.posterior import laplace_evidence
from race_calc.posterior.laplace_evidence import Observations

SIGMAS = 4.5  # statistical bounds, in standard errors


def fit_sums(weights, noises=None, **sums):
    """`laplace_evidence.fit` with the fields of its observations by name."""
    kinds = (Observations(*(sums[f"{kind}_{field}"] for field in ("curvature", "squares", "count"))) for kind in ("energy", "force"))
    return laplace_evidence.fit(weights, *kinds, noises)


class Model:
    """E = X w with noises n_atoms σ_E² and F = G w with σ_F²; XᵀN⁻¹X and GᵀG are diagonal."""

    def __init__(self, size, structures, components, seed=0, tau=2.0, energy_noise=0.04, force_noise=0.3):
        rng = np.random.default_rng(seed)
        self.atoms = rng.integers(1, 9, size=structures).astype(float)
        self.x = self._orthogonal(rng, structures, size) * np.sqrt(self.atoms)[:, None]
        self.g = self._orthogonal(rng, components, size)
        w = rng.normal(size=size) / math.sqrt(tau)
        self.energies = self.x @ w + np.sqrt(self.atoms * energy_noise) * rng.normal(size=structures)
        self.forces = self.g @ w + math.sqrt(force_noise) * rng.normal(size=components)

    @staticmethod
    def _orthogonal(rng, rows, columns):
        if not rows:
            return np.zeros((0, columns))
        q, _ = np.linalg.qr(rng.normal(size=(rows, columns)))
        return q * rng.uniform(0.5, 2.0, size=columns) * math.sqrt(rows / 9)

    def exact(self, tau, energy_noise, force_noise):
        """Posterior mean and covariance."""
        rows, noise = np.concatenate([self.x, self.g]), self.noise(energy_noise, force_noise)
        covariance = np.linalg.inv(tau * np.eye(self.x.shape[1]) + rows.T @ (rows / noise[:, None]))
        return covariance @ rows.T @ (np.concatenate([self.energies, self.forces]) / noise), covariance

    def noise(self, energy_noise, force_noise):
        return np.concatenate([self.atoms * energy_noise, np.full(len(self.forces), force_noise)])

    def exact_evidence(self, tau, energy_noise, force_noise):
        """log of the density of energies/√n_atoms and forces, all weights integrated out."""
        rows = np.concatenate([self.x, self.g])
        covariance = rows @ rows.T / tau + np.diag(self.noise(energy_noise, force_noise))
        density = multivariate_normal(np.zeros(len(rows)), covariance)
        return density.logpdf(np.concatenate([self.energies, self.forces])) + 0.5 * np.log(self.atoms).sum()

    def sums(self, w):
        """Arguments of `fit_sums`, by name."""
        tensor = torch.from_numpy
        return dict(
            weights=tensor(w),
            energy_curvature=tensor((self.x**2 / self.atoms[:, None]).sum(0)),
            energy_squares=float(((self.energies - self.x @ w) ** 2 / self.atoms).sum()),
            energy_count=len(self.energies),
            force_curvature=tensor((self.g**2).sum(0)),
            force_squares=float(((self.forces - self.g @ w) ** 2).sum()),
            force_count=len(self.forces),
        )

    def observations(self, w):
        s = self.sums(w)
        return [Observations(s[f"{kind}_curvature"].numpy(), s[f"{kind}_squares"], s[f"{kind}_count"]) for kind in ("energy", "force")]


@pytest.mark.parametrize("tau, energy_noise, force_noise", [(2.0, 0.04, 0.3), (0.1, 1.0, 0.002), (50.0, 1e-3, 5.0)])
def test_the_evidence_of_an_orthogonal_linear_model_is_exact(tau, energy_noise, force_noise):
    model = Model(5, 12, 18)
    w, _ = model.exact(tau, energy_noise, force_noise)
    value, _ = laplace_evidence.log_evidence(np.log([tau, energy_noise, force_noise]), w, model.observations(w))
    assert value == pytest.approx(model.exact_evidence(tau, energy_noise, force_noise), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_by_finite_differences(seed):
    rng = np.random.default_rng(seed)
    w, logs = rng.normal(size=5), rng.normal(size=3)
    observations = Model(5, 12, 18, seed).observations(w)
    _, gradient = laplace_evidence.log_evidence(logs, w, observations)
    for i, step in enumerate(1e-5 * np.eye(3)):
        above, below = (laplace_evidence.log_evidence(logs + sign * step, w, observations)[0] for sign in (1, -1))
        assert gradient[i] == pytest.approx((above - below) / 2e-5, rel=1e-6, abs=1e-6), (seed, i)


def test_fit_and_map_together_are_the_exact_posterior_and_the_exact_maximum():
    """MAP and hyperparameters in turn; where neither moves, all is exact, and so is the maximum."""
    model = Model(5, 30, 45)
    w = model.exact(1.0, 1.0, 1.0)[0]
    for _ in range(25):
        fit = fit_sums(**model.sums(w))
        w, covariance = model.exact(fit.prior_precision, fit.energy_noise, fit.force_noise)
    hyper = fit.prior_precision, fit.energy_noise, fit.force_noise
    np.testing.assert_allclose(fit.mean.numpy(), w, rtol=1e-8)
    np.testing.assert_allclose(np.diag(fit.variance.numpy()), covariance, rtol=1e-8, atol=1e-15)
    assert fit.log_evidence == pytest.approx(model.exact_evidence(*hyper), rel=1e-8)
    best = minimize(lambda logs: -model.exact_evidence(*np.exp(logs)), np.zeros(3), method="BFGS")
    np.testing.assert_allclose(np.log(hyper), best.x, atol=1e-3)
    assert fit.log_evidence == pytest.approx(-best.fun, abs=1e-6)


def test_known_noises_and_prior_are_recovered():
    size, structures, components = 150, 600, 1200
    model = Model(size, structures, components, seed=3, tau=4.0, energy_noise=0.02, force_noise=0.5)
    fit = fit_sums(**model.sums(model.exact(4.0, 0.02, 0.5)[0]))
    # relative standard errors √(2/n): n the weights; the outputs, less at most one for each weight
    assert abs(fit.prior_precision / 4.0 - 1) < SIGMAS * math.sqrt(2 / size)
    assert abs(fit.energy_noise / 0.02 - 1) < SIGMAS * math.sqrt(2 / (structures - size))
    assert abs(fit.force_noise / 0.5 - 1) < SIGMAS * math.sqrt(2 / (components - size))


@pytest.mark.parametrize("absent", ["energy", "force"])
def test_a_kind_that_is_absent_leaves_the_other_exact(absent):
    structures, components = (0, 40) if absent == "energy" else (40, 0)
    model = Model(5, structures, components)
    w = model.exact(2.0, 0.04, 0.3)[0]
    fit = fit_sums(**model.sums(w))
    assert getattr(fit, f"{absent}_noise") is None
    noise = fit.energy_noise or fit.force_noise
    s = model.sums(w)
    curvature = s["energy_curvature"] + s["force_curvature"]
    torch.testing.assert_close(fit.variance, 1 / (curvature / noise + fit.prior_precision), rtol=1e-12, atol=0)
    gamma = float((curvature / noise * fit.variance).sum())  # MacKay's two conditions at the maximum
    assert fit.prior_precision * float(w @ w) == pytest.approx(gamma, rel=1e-5)
    assert (s["energy_squares"] + s["force_squares"]) / noise == pytest.approx(40 - gamma, rel=1e-5)


@pytest.mark.parametrize(
    "change", [dict(weights=torch.zeros(5)), dict(energy_squares=0.0, force_squares=0.0)], ids=["zero weights", "no residuals"]
)
def test_degenerate_data_stay_finite(change):
    sums = Model(5, 12, 18).sums(np.ones(5)) | change
    fit = fit_sums(**sums)
    assert fit.variance.dtype == fit.mean.dtype == sums["weights"].dtype
    assert torch.isfinite(fit.variance).all() and (fit.variance > 0).all() and math.isfinite(fit.log_evidence)
    assert min(fit.prior_precision, fit.energy_noise, fit.force_noise) > 0


def test_more_weights_than_outputs_inflate_the_noise_as_the_docstring_says():
    count, residual = 20, 1e-4
    w = torch.linspace(-1, 1, 2000, dtype=torch.float64)
    zero = torch.zeros_like(w)
    fit = laplace_evidence.fit(w, Observations(count * torch.ones_like(w), count * residual, count), Observations(zero, 0.0, 0))
    gamma = float((1 - fit.prior_precision * fit.variance).sum())
    assert fit.energy_noise > 1e3 * residual
    assert count * residual / fit.energy_noise == pytest.approx(count - gamma, abs=1e-3)


def test_known_noises_leave_the_prior_to_the_evidence():
    """τ is where the gradient of log Z vanishes; noises stay as given, also with more weights than outputs."""
    model = Model(5, 12, 18)
    w, _ = model.exact(2.0, 0.04, 0.3)
    fit = fit_sums(**model.sums(w), noises=(0.04, 0.3))
    assert (fit.energy_noise, fit.force_noise) == (pytest.approx(0.04), pytest.approx(0.3))
    logs = np.log([fit.prior_precision, 0.04, 0.3])
    assert laplace_evidence.log_evidence(logs, w, model.observations(w))[1][0] == pytest.approx(0, abs=1e-6)
    _, covariance = model.exact(fit.prior_precision, 0.04, 0.3)
    np.testing.assert_allclose(fit.variance.numpy(), np.diag(covariance), rtol=1e-9)
    with pytest.raises(ValueError, match="variances > 0"):
        fit_sums(**model.sums(w), noises=(0.0, 0.3))


def test_samples_have_mean_and_variance_and_obey_the_seed():
    model, n = Model(4, 12, 18), 50_000
    fit = fit_sums(**model.sums(model.exact(2.0, 0.04, 0.3)[0]))
    draws = laplace_evidence.sample(fit, n, seed=4)
    assert ((draws.mean(0) - fit.mean).abs() < SIGMAS * (fit.variance / n).sqrt()).all()
    assert ((draws.var(0) / fit.variance - 1).abs() < SIGMAS * math.sqrt(2 / n)).all()
    assert (draws.T.corrcoef() - torch.eye(4)).abs().max() < SIGMAS / math.sqrt(n)
    assert torch.equal(draws, laplace_evidence.sample(fit, n, seed=4))
    assert not torch.equal(draws, laplace_evidence.sample(fit, n, seed=5))


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(weights=torch.tensor([1.0, math.nan])), "weights are not finite"),
        (dict(energy_curvature=torch.tensor([1.0, math.inf])), "energy_curvature or energy_squares is not finite"),
        (dict(force_squares=math.nan), "force_curvature or force_squares is not finite"),
        (dict(force_curvature=torch.tensor([1.0, -1.0])), "negative"),
        (dict(force_curvature=torch.ones(3)), "one number a weight"),
        (dict(energy_count=0), "energy_count is 0, but"),
        (
            dict(
                energy_count=0,
                energy_curvature=torch.zeros(2),
                energy_squares=0.0,
                force_count=0,
                force_curvature=torch.zeros(2),
                force_squares=0.0,
            ),
            "no energies and no forces",
        ),
        (dict(energy_curvature=torch.zeros(2), force_curvature=torch.zeros(2)), "all curvatures are zero"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_input_that_cannot_be_is_an_error_with_advice(change, message):
    good = dict(
        weights=torch.ones(2),
        energy_curvature=torch.ones(2),
        energy_squares=1.0,
        energy_count=3,
        force_curvature=torch.ones(2),
        force_squares=1.0,
        force_count=9,
    )
    with pytest.raises(ValueError, match=message):
        fit_sums(**good | change)


@pytest.mark.parametrize("noises", [(0.0, 1.0), (1.0, 0.0), (1.0, math.inf), (math.nan, 1.0)])
def test_known_noises_must_be_variances(noises):
    kind = Observations(torch.ones(2), 1.0, 3)
    with pytest.raises(ValueError, match="give variances > 0"):
        laplace_evidence.fit(torch.ones(2), kind, kind, noises)


def test_units_do_not_matter():
    """Energies and forces in a unit a million times smaller have noises 10¹² times larger, and the same weights."""
    model = Model(size=5, structures=40, components=120)
    sums = model.sums(np.linspace(-1, 1, 5))
    other = {name: value * 1e12 if name.endswith(("curvature", "squares")) else value for name, value in sums.items()}
    one, two = fit_sums(**sums), fit_sums(**other)
    assert two.prior_precision == pytest.approx(one.prior_precision, rel=1e-4)
    assert two.energy_noise == pytest.approx(1e12 * one.energy_noise, rel=1e-4)
    assert two.force_noise == pytest.approx(1e12 * one.force_noise, rel=1e-4)
    torch.testing.assert_close(two.variance, one.variance, rtol=1e-4, atol=0.0)
