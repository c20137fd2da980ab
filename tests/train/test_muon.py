"""Muon's directions: nearly orthogonal matrices, each on its own, and untouched parameters where it has no say."""

import pytest
import torch

from race_calc.posterior.state import flatten, unflatten
from race_calc.train.muon import WEIGHT_DECAY, is_matrix, muon_direction, orthogonalise

SHAPES = {
    "embedding": (3, 4),
    "layers.0.up.0e": (4, 6),
    "layers.0.product.0e": (3, 6, 4),
    "layers.0.radial.0": (8, 4),
    "layers.0.skip.0e": (4, 6),
    "layers.0.readout.out": (5, 3),
    "layers.0.readout.tensor": (5, 1),
    "offset": (),
}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(2, 7, 7), (2, 3, 5, 20), (4, 30, 6)])
def test_singular_values_become_about_one_and_vectors_stay(shape):
    matrices = normal(*shape)
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    done = orthogonalise(matrices)
    values = torch.einsum("...ik,...ij,...kj->...k", u, done, v)
    torch.testing.assert_close(u @ torch.diag_embed(values) @ v, done)  # the same singular vectors
    clear = s > 0.05 * s.amax(-1, keepdim=True)
    assert ((values > 0.6) & (values < 1.3))[clear].all()


def test_size_does_not_matter_and_zero_stays_zero():
    matrix = normal(1, 5, 8)
    for scale in (1e-28, 1e-12, 1e6):
        torch.testing.assert_close(orthogonalise(scale * matrix), orthogonalise(matrix))
    assert torch.equal(orthogonalise(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))
    for power in range(10, 46):  # down to where float32 ends: never NaN
        small = orthogonalise((10.0**-power * matrix).float())
        assert torch.isfinite(small).all() and (power > 28 or small.norm() > 1.5)


def test_a_matrix_without_a_gradient_stays():
    """Momentum alone does not move it: its species is not in the batch."""
    shapes = {"layers.0.skip.0e": (3, 4, 6)}
    momentum, gradient = normal(2, 72), normal(2, 72, seed=1)
    gradient.view(2, 3, 4, 6)[:, 1] = 0
    found = muon_direction(normal(2, 72, seed=2), gradient, momentum, None, shapes).view(2, 3, 4, 6)
    assert not found[:, 1].any() and (found[:, [0, 2]].flatten(2).norm(dim=2) > 1).all()


def test_directions_of_a_stack():
    """Every matrix is done alone, the rest is left to the other direction, and entries are of order one."""
    members = 2
    size = sum(torch.Size(shape).numel() for shape in SHAPES.values())
    momentum, adam, weights = (normal(members, size, seed=seed) for seed in range(3))
    found = unflatten(muon_direction(weights, momentum, momentum, lambda columns: adam[:, columns], SHAPES), SHAPES)
    moving, otherwise, held = (unflatten(x, SHAPES) for x in (momentum, adam, weights))
    for name, shape in SHAPES.items():
        if is_matrix(name, shape):
            expected = orthogonalise(moving[name]) * max(shape[-2:]) ** 0.5 + WEIGHT_DECAY * held[name]
            torch.testing.assert_close(found[name], expected)
            assert 0.6 < float(found[name].pow(2).mean().sqrt()) < 1.3
        else:
            assert torch.equal(found[name], otherwise[name]), name
    moved = {name for name, shape in SHAPES.items() if is_matrix(name, shape)}
    assert moved == {"layers.0.up.0e", "layers.0.product.0e", "layers.0.radial.0", "layers.0.skip.0e"}
    alone = muon_direction(weights[1:], momentum[1:], momentum[1:], lambda columns: adam[1:, columns], SHAPES)
    torch.testing.assert_close(flatten(list(found.values()))[1:], alone)
