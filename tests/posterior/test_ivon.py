"""IVON against numbers by hand and against the mean-field optimum of a linear-Gaussian model."""

import math

import pytest
import torch

from race_calc.posterior import ivon
from race_calc.posterior.ivon import Gaussian, Scales


def rows(values):
    return torch.tensor([values], dtype=torch.float64)


@pytest.mark.parametrize("clip", [1.0, 0.05])
def test_one_step_by_hand(clip):
    m, g, h = (0.5, -1.5), (0.2, 0.1), (0.3, 2.0)
    gradient, noise = (0.7, -0.4), (0.05, 0.02)
    steps, rate, ess, decay, beta2 = 3, 0.1, 40.0, 0.25, 0.9
    now = Gaussian(rows(m), rows(g), rows(h), torch.tensor([float(steps)], dtype=torch.float64))
    got = ivon.update(now, rows(gradient), rows(noise), rate, Scales(ess, decay, beta2, clip))
    expected = [[], [], []]
    for i in range(2):
        variance = 1 / (ess * (h[i] + decay))
        h_hat = gradient[i] * noise[i] / variance
        g_new = 0.9 * g[i] + 0.1 * gradient[i]
        h_new = beta2 * h[i] + (1 - beta2) * h_hat + 0.5 * (1 - beta2) ** 2 * (h[i] - h_hat) ** 2 / (h[i] + decay)
        direction = (g_new / (1 - 0.9**4) + decay * m[i]) / (h_new + decay)
        m_new = m[i] - rate * min(max(direction, -clip), clip)
        for column, value in zip(expected, (m_new, g_new, h_new)):
            column.append(value)
    for tensor, column in zip(got, expected):
        torch.testing.assert_close(tensor, rows(column), rtol=1e-14, atol=0)


def test_clip_bounds_the_step_of_every_weight_and_nothing_else():
    zero, h = rows([0.0] * 3), rows([1.0] * 3)
    steps, gradient = torch.zeros(1, dtype=torch.float64), rows([1e6, -1e6, 0.01])
    mean, momentum, hessian = ivon.update(Gaussian(zero, zero, h, steps), gradient, rows([1e-3] * 3), 0.1, Scales(10.0, 0.5, 0.999))
    torch.testing.assert_close(mean[:, :2], rows([-0.1, 0.1]), rtol=1e-14, atol=0)  # rate · CLIP
    assert 0 < -mean[0, 2] < 0.1 * 0.01
    torch.testing.assert_close(momentum, 0.1 * gradient, rtol=1e-12, atol=0)
    assert hessian[0, 0] > 10 and hessian[0, 1] > 10


def regression(size=3, count=40, variance=0.25):
    """Loss ½ mean d²/σ², ess = N: Hessian H (D, D), exact posterior mean and weight decay δ with prior 1/(Nδ)."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(count, size, generator=generator, dtype=torch.float64) @ rows([1.0, 0.6, 1.5])[0].diag()
    x[:, 1] += 0.4 * x[:, 0]
    y = x @ rows([1.0, -2.0, 0.5])[0]
    y = y + math.sqrt(variance) * torch.randn(count, generator=generator, dtype=torch.float64)
    decay = 0.05
    hessian = x.T @ x / (count * variance)
    mean = torch.linalg.solve(hessian + decay * torch.eye(size, dtype=torch.float64), x.T @ y / (count * variance))
    return hessian, x.T @ y / (count * variance), mean, decay, float(count)


def run(members, steps=2500, seed=0):
    """`members` runs from zero; averages over the last half: mean, h, smallest h + δ of all."""
    curvature, slope, _, decay, ess = regression()
    generators = [torch.Generator().manual_seed(seed + member) for member in range(members)]
    draws = torch.stack([torch.randn(steps, len(slope), generator=g, dtype=torch.float64) for g in generators])
    mean, momentum = torch.zeros(2, members, len(slope), dtype=torch.float64).unbind()
    hessian, taken = torch.full_like(mean, 0.5), torch.zeros(members, dtype=torch.float64)
    means, hessians, smallest = torch.zeros_like(mean), torch.zeros_like(mean), math.inf
    for step in range(steps):
        noise = ivon.deviation(hessian, ess, decay) * draws[:, step]
        gradient = (mean + noise) @ curvature - slope
        rate = 0.2 if step < 500 else 0.2 * 500 / step  # Robbins–Monro, so that the mean settles
        mean, momentum, hessian = ivon.update(Gaussian(mean, momentum, hessian, taken), gradient, noise, rate, Scales(ess, decay, 0.995))
        taken = taken + 1
        smallest = min(smallest, float((hessian + decay).min()))
        if step >= steps // 2:
            means, hessians = means + mean / (steps - steps // 2), hessians + hessian / (steps - steps // 2)
    return means, hessians, smallest


def test_a_linear_gaussian_model_ends_at_the_mean_field_optimum():
    """The mean is exact; the variance is 1/(λ(H_dd + δ)), the best diagonal Gaussian's, not the marginal one."""
    members = 48
    means, hessians, smallest = run(members)
    curvature, _, exact, decay, ess = regression()
    variance = 1 / (ess * (curvature.diagonal() + decay))
    assert smallest > 0 and (hessians > 0).all()
    standard_error = means.std(0) / math.sqrt(members)
    assert (standard_error < 0.02 * variance.sqrt()).all()  # the bounds below mean something
    assert ((means.mean(0) - exact).abs() < 4.5 * standard_error + 1e-4 * variance.sqrt()).all()
    found = 1 / (ess * (hessians.mean(0) + decay))
    standard_error = hessians.std(0) / math.sqrt(members) / (curvature.diagonal() + decay)
    assert (standard_error < 0.03).all()
    # ĥ fluctuates by a few H, so that ½(1 − β₂)² shifts the average by order 1 − β₂ = 0.5 %
    assert ((found / variance - 1).abs() < 4.5 * standard_error + 0.02).all()


def test_rows_of_a_stack_are_members_alone():
    stack = run(3, steps=60)
    for member in range(3):
        alone = run(1, steps=60, seed=member)
        for whole, single in zip(stack[:2], alone[:2]):
            torch.testing.assert_close(whole[member], single[0], rtol=1e-12, atol=1e-14)


def test_members_keep_their_own_steps_and_rates():
    generator = torch.Generator().manual_seed(0)
    m, g, h, gradient, noise = torch.rand(5, 2, 4, dtype=torch.float64, generator=generator).unbind()
    steps, rate = torch.tensor([0.0, 7.0], dtype=torch.float64), torch.tensor([[0.1], [0.03]], dtype=torch.float64)
    both = ivon.update(Gaussian(m, g, h, steps), gradient, noise, rate, Scales(9.0, 0.1, 0.99))
    for i in range(2):
        row = slice(i, i + 1)
        alone = ivon.update(Gaussian(m[row], g[row], h[row], steps[row]), gradient[row], noise[row], float(rate[i]), Scales(9.0, 0.1, 0.99))
        for whole, single in zip(both, alone):
            torch.testing.assert_close(whole[row], single, rtol=1e-14, atol=0)


def test_the_precision_stays_positive_whatever_the_gradients():
    decay, generator = 0.01, torch.Generator().manual_seed(0)
    mean, momentum = torch.zeros(2, 1, 50, dtype=torch.float64).unbind()
    hessian = torch.full_like(mean, 0.5)
    for step in range(200):
        noise = ivon.deviation(hessian, 100.0, decay) * torch.randn(1, 50, generator=generator, dtype=torch.float64)
        gradient = -noise.sign() * 10 ** (4 * torch.rand(1, 50, generator=generator, dtype=torch.float64) - 3)  # ĥ < 0
        steps = torch.tensor([float(step)], dtype=torch.float64)
        before = hessian + decay
        mean, momentum, hessian = ivon.update(Gaussian(mean, momentum, hessian, steps), gradient, noise, 0.1, Scales(100.0, decay, 0.9))
        assert (hessian + decay >= 0.5 * before * (1 - 1e-9)).all()
    assert torch.isfinite(mean).all()


def test_float32_stays_float32_and_moves_where_beta2_is_next_to_one():
    """A step of 1 − β₂ = 5e-6 is a few units in the last place of a float32 h: it must still add up."""
    h = torch.ones(1, 1)
    for _ in range(200):
        now = Gaussian(torch.zeros(1, 1), torch.zeros(1, 1), h, torch.zeros(1, dtype=torch.float64))
        out = ivon.update(now, torch.full((1, 1), 3.0), torch.full((1, 1), 0.1), 0.1, Scales(10.0, 0.1, 0.999995))
        assert all(tensor.dtype == torch.float32 for tensor in out)
        h = out[2]
    exact = 1.0
    for _ in range(200):
        change = 5e-6 * (3.0 * 0.1 * 10.0 * (exact + 0.1) - exact)
        exact += change + 0.5 * change**2 / (exact + 0.1)
    assert float(h) - 1 == pytest.approx(exact - 1, rel=0.02)


def test_samples_have_mean_and_deviation_and_obey_the_seed():
    mean, hessian, n = rows([1.0, -2.0])[0], rows([0.1, 4.0])[0], 100_000
    draws = ivon.sample(mean, hessian, 30.0, 0.2, n, seed=4)
    variance = torch.tensor([1 / (30 * 0.3), 1 / (30 * 4.2)], dtype=torch.float64)
    assert ((draws.mean(0) - mean).abs() < 4.5 * (variance / n).sqrt()).all()
    assert ((draws.var(0) / variance - 1).abs() < 4.5 * math.sqrt(2 / n)).all()
    assert torch.equal(draws, ivon.sample(mean, hessian, 30.0, 0.2, n, seed=4))
    assert not torch.equal(draws, ivon.sample(mean, hessian, 30.0, 0.2, n, seed=5))
    assert ivon.sample(mean.float(), hessian.float(), 30.0, 0.2, 2, seed=4).dtype == torch.float32
