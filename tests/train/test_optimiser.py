"""Stacked Adam against torch's, and what happens to members that go wrong."""

import pytest
import torch

from race_calc.posterior.state import StackState, flatten, initial_state, unflatten
from race_calc.train.optimiser import MAX_BAD_STEPS, Pace, go_back, keep_best, update

NO_CLIP = 1e9


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def step(state: StackState, gradients: torch.Tensor, losses=None, rate=0.01, clip=NO_CLIP, ema=0.9) -> StackState:
    losses = torch.ones(len(gradients)) if losses is None else losses
    return update(state, gradients, losses, Pace(rate, clip, ema))


def run_steps(weights: torch.Tensor, gradients: torch.Tensor, **settings) -> StackState:
    state = initial_state(weights.clone())
    for gradient in gradients:
        state = step(state, gradient, **settings)
    return state


def test_one_member_is_adam_of_torch():
    weights, gradients = normal(1, 6), normal(30, 1, 6, seed=1)
    theirs = weights.clone().requires_grad_()
    adam = torch.optim.Adam([theirs], lr=0.01)
    for gradient in gradients:
        theirs.grad = gradient
        adam.step()
    mine = run_steps(weights, gradients)
    torch.testing.assert_close(mine.weights, theirs.detach(), rtol=1e-12, atol=1e-14)
    assert mine.steps.tolist() == [30] and mine.skipped.tolist() == [0]


def test_members_are_independent():
    """Clipping included: the norm is that of the member."""
    weights, gradients = normal(3, 6), normal(10, 3, 6, seed=1) * torch.tensor([1.0, 100.0, 0.01])[:, None]
    stack = run_steps(weights, gradients, clip=2.0)
    for m in range(3):
        alone = run_steps(weights[m : m + 1], gradients[:, m : m + 1], clip=2.0)
        for name, value in alone.tensors().items():
            torch.testing.assert_close(getattr(stack, name)[m : m + 1], value, rtol=1e-13, atol=0, msg=name)


def test_clipping():
    """A long gradient is scaled to the norm, a short one is left alone."""
    gradients = torch.tensor([[30.0, 40.0], [0.3, 0.4]], dtype=torch.float64)
    state = step(initial_state(torch.zeros(2, 2, dtype=torch.float64)), gradients, clip=5.0)
    torch.testing.assert_close(state.first / 0.1, torch.tensor([[3.0, 4.0], [0.3, 0.4]]).double())
    torch.testing.assert_close(state.second / 0.001, torch.tensor([[9.0, 16.0], [0.09, 0.16]]).double())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["gradient", "loss"])
def test_a_bad_member_is_skipped_alone_and_counted(bad, where):
    before = run_steps(normal(3, 4), normal(5, 3, 4, seed=1))
    gradients, losses = normal(3, 4, seed=2), torch.ones(3)
    good = step(before, gradients, losses)
    if where == "gradient":
        gradients = gradients.clone()
        gradients[1, 2] = bad
    else:
        losses[1] = bad
    after = step(before, gradients, losses)
    for name in ("weights", "ema", "first", "second", "steps"):
        new = getattr(after, name)
        assert torch.equal(new[1], getattr(before, name)[1]), name
        assert torch.equal(new[[0, 2]], getattr(good, name)[[0, 2]]), name
    assert after.skipped.tolist() == [0, 1, 0] and after.bad_in_row.tolist() == [0, 1, 0]
    again = step(after, gradients, losses)
    assert again.skipped.tolist() == [0, 2, 0] and again.bad_in_row.tolist() == [0, 2, 0]
    mended = step(again, normal(3, 4, seed=3))
    assert mended.skipped.tolist() == [0, 2, 0] and mended.bad_in_row.tolist() == [0, 0, 0]


def test_a_gradient_whose_norm_overflows_is_bad():
    before = initial_state(torch.zeros(1, 4))
    after = step(before, torch.full((1, 4), 3e38))
    assert after.skipped.tolist() == [1] and torch.equal(after.weights, before.weights)


def test_several_bad_steps_go_back_with_half_the_rate():
    good = run_steps(normal(2, 4), normal(3, 2, 4, seed=1))
    state = step(good, normal(2, 4, seed=2))
    nan = normal(2, 4, seed=3)
    nan[0] = float("nan")
    for _ in range(MAX_BAD_STEPS - 1):
        state = step(state, nan)
        assert go_back(state, good) is state  # not yet
    state = step(state, nan)
    back = go_back(state, good)
    for name in ("weights", "ema", "first", "second", "steps"):
        assert torch.equal(getattr(back, name)[0], getattr(good, name)[0]), name
        assert torch.equal(getattr(back, name)[1], getattr(state, name)[1]), name
    assert back.lr_factor.tolist() == [0.5, 1.0]
    assert back.bad_in_row.tolist() == [0, 0] and back.skipped.tolist() == [MAX_BAD_STEPS, 0]
    # the next step of the member is half as long
    after, full = step(back, torch.ones(2, 4).double()), step(good, torch.ones(2, 4).double())
    torch.testing.assert_close((after.weights - back.weights)[0], 0.5 * (full.weights - good.weights)[0])


def test_going_back_twice_halves_twice():
    state = good = initial_state(normal(1, 3))
    for _ in range(2 * MAX_BAD_STEPS):
        state = go_back(step(state, torch.full((1, 3), float("nan")).double()), good)
    assert state.lr_factor.tolist() == [0.25] and torch.equal(state.weights, good.weights)


def test_average_follows_the_weights():
    state = initial_state(torch.zeros(1, 1, dtype=torch.float64))
    expected = 0.0
    for k in range(1, 200):
        state = step(state, torch.ones(1, 1).double(), ema=0.95)
        decay = min((k + 1) / (k + 10), 0.95)
        expected = decay * expected + (1 - decay) * float(state.weights)
        assert float(state.ema) == pytest.approx(expected, rel=1e-12)
    off = run_steps(normal(2, 3), normal(4, 2, 3, seed=1), ema=0.0)
    assert torch.equal(off.ema, off.weights)


def test_keep_best():
    first = run_steps(normal(2, 3), normal(2, 2, 3, seed=1))
    assert first.best_epoch.tolist() == [-1, -1]
    one = keep_best(first, torch.tensor([1.0, 2.0]).double(), epoch=1)
    assert torch.equal(one.best, first.ema) and one.best_epoch.tolist() == [1, 1]
    moved = step(one, normal(2, 3, seed=4))
    two = keep_best(moved, torch.tensor([0.5, 2.0]).double(), epoch=2)
    assert torch.equal(two.best[0], moved.ema[0]) and torch.equal(two.best[1], one.best[1])
    assert two.best_epoch.tolist() == [2, 1] and two.best_score.tolist() == [0.5, 2.0]
    nan = keep_best(two, torch.tensor([float("nan"), -1.0]).double(), epoch=3)
    assert nan.best_epoch.tolist() == [2, 3] and nan.best_score.tolist() == [0.5, -1.0]
    last = keep_best(nan, torch.tensor([7.0, float("nan")]).double(), epoch=4, last=True)
    assert last.best_epoch.tolist() == [4, 3] and last.best_score.tolist() == [7.0, -1.0]


def test_flatten_and_unflatten_are_inverse():
    shapes = {"a": (2, 3), "offset": (), "b": (4,)}
    flat = normal(5, 2 * 3 + 1 + 4)
    parts = unflatten(flat, shapes)
    assert {name: tuple(value.shape) for name, value in parts.items()} == {"a": (5, 2, 3), "offset": (5,), "b": (5, 4)}
    assert torch.equal(flatten(list(parts.values())), flat)
    flat[:, 6] = 9
    assert (parts["offset"] == 9).all()  # views


def test_nothing_has_happened_before_the_first_step():
    state = initial_state(normal(2, 3))
    for name in ("first", "second", "steps", "bad_in_row", "skipped"):
        assert not getattr(state, name).any(), name
    assert state.lr_factor.tolist() == [1, 1] and state.best_epoch.tolist() == [-1, -1] and torch.isinf(state.best_score).all()
    assert torch.equal(state.ema, state.weights) and torch.equal(state.best, state.weights)
