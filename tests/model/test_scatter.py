"""Sums by index: torch alone, torch-scatter, and a plain loop agree."""

import pytest
import torch

from race_calc.model import scatter


def random_sum(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(3, 50, 2, generator=generator, dtype=torch.float64)
    index = torch.randint(0, 7, (50,), generator=generator)
    loop = torch.stack([values[:, index == k].sum(1) for k in range(9)], dim=1)
    return values, index, loop


def test_native_sum(monkeypatch):
    monkeypatch.setattr(scatter, "_torch_scatter_sum", None)
    values, index, loop = random_sum()
    assert scatter.sum_by_index(values, index, 9) == pytest.approx(loop, abs=1e-13)
    assert torch.autograd.gradgradcheck(lambda x: scatter.sum_by_index(x, index, 9) ** 2, values.requires_grad_())


def test_torch_scatter_gives_the_same():
    pytest.importorskip("torch_scatter", reason="the extra [scatter] is not installed")
    assert scatter._torch_scatter_sum is not None
    values, index, loop = random_sum(1)
    assert scatter.sum_by_index(values, index, 9) == pytest.approx(loop, abs=1e-13)


def test_torch_scatter_is_asked_for_the_second_axis(monkeypatch):
    """Also where it is not installed."""
    asked = {}
    monkeypatch.setattr(scatter, "_torch_scatter_sum", lambda values, index, **how: asked.update(how) or values)
    values, index, _ = random_sum()
    assert scatter.sum_by_index(values, index, 9) is values and asked == {"dim": 1, "dim_size": 9}
