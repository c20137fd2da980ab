"""The product kernels against torch's own operations: values, first and second derivatives."""

from itertools import combinations

import pytest
import torch

from race_calc.model.config import ModelConfig
from race_calc.model.kernels.products import coupled_by_kernels
from race_calc.model.plan import Product, make_plan
from race_calc.model.products import coupled

NATURAL = "4x0e+4x1o+4x2e"
BOTH = "+".join(f"4x{l}{p}" for l in range(4) for p in "eo")

pytestmark = pytest.mark.usefixtures("kernels")


def product(irreps: str, order: int, channels: int) -> Product:
    """Of the second of three layers, where most is alive."""
    config = ModelConfig(hidden_irreps=irreps, l_max=3, correlation=3, layers=3, product_channels=channels)
    return make_plan(config, 2).layers[1].products[order - 2]


def factors(product: Product, members: int = 2, atoms: int = 3, dtype=torch.float64) -> tuple[list, list]:
    """Left and right factor; in order 2 they are one."""
    draw = torch.Generator().manual_seed(0)
    left, right = (
        [torch.randn(members, atoms, 2 * ir.l + 1, ir.mul, generator=draw, dtype=dtype) for ir in side]
        for side in (product.left, product.right)
    )
    return left, left if product.order == 2 else right


def derivatives(product: Product, function, live: tuple[int, ...]) -> list[torch.Tensor]:
    """Products, gradients of a function of some of them to the factors, and gradients of a function of those."""
    left, right = factors(product)
    left = [x.requires_grad_() for x in left]
    right = left if product.order == 2 else [x.requires_grad_() for x in right]
    leaves = left if product.order == 2 else [*left, *right]
    made = function(left, right)
    first = torch.autograd.grad(sum((made[t] ** 3).sum() for t in live), leaves, create_graph=True)
    second = torch.autograd.grad(sum((g**2).sum() for g in first), leaves)
    return [*made, *first, *second]


# 17: whole vectors and a rest; 1: only a rest
@pytest.mark.parametrize("channels", [1, 8, 17])
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("irreps", [NATURAL, BOTH], ids=["natural", "both"])
def test_values_and_derivatives(irreps, order, channels, variant):
    which = product(irreps, order, channels)
    every = tuple(range(len(which.targets)))
    assert len(which.couplings) == {(NATURAL, 2): 8, (NATURAL, 3): 11}.get((irreps, order), len(which.couplings))
    found = derivatives(which, lambda left, right: coupled_by_kernels(which, left, right, 1), every)
    expected = derivatives(which, lambda left, right: coupled(which, left, right), every)
    for a, b in zip(found, expected, strict=True):
        assert b.abs().max() > 1e-3
        assert (a - b).abs().max() <= 1e-12 * b.abs().max()


@pytest.mark.parametrize("live", [keep for n in range(3) for keep in combinations(range(3), n + 1)])
@pytest.mark.parametrize("order", [2, 3])
def test_products_without_a_gradient_are_skipped(order, live):
    which = product(NATURAL, order, 5)
    found = derivatives(which, lambda left, right: coupled_by_kernels(which, left, right, 1), live)
    expected = derivatives(which, lambda left, right: coupled(which, left, right), live)
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() <= 1e-12 * b.abs().max()


@pytest.mark.parametrize("members", [1, 2, 5])
@pytest.mark.parametrize("order", [2, 3])
def test_shared_work(order, members):
    """Any number of threads gives the same bits: nothing is added up between them."""
    which = product(NATURAL, order, 5)
    left, right = factors(which, members, atoms=7)
    alone = coupled_by_kernels(which, left, right, 1)
    for threads in (2, 3, 40):
        for a, b in zip(coupled_by_kernels(which, left, right, threads), alone, strict=True):
            assert torch.equal(a, b)


def test_single_precision_and_no_atoms():
    which = product(BOTH, 2, 8)
    left, right = factors(which, dtype=torch.float32)
    for a, b in zip(coupled_by_kernels(which, left, right, 1), coupled(which, left, right), strict=True):
        assert a.dtype == torch.float32 and (a - b).abs().max() <= 1e-5 * b.abs().max()
    none = [x[:, :0] for x in left]
    assert all(x.shape[1] == 0 for x in coupled_by_kernels(which, none, none, 2))


def test_a_factor_that_is_not_contiguous():
    which = product(NATURAL, 2, 4)
    left, _ = factors(which, members=1)
    wide = [x.expand(3, -1, -1, -1) for x in left]
    for a, b in zip(coupled_by_kernels(which, wide, wide, 1), coupled(which, wide, wide), strict=True):
        torch.testing.assert_close(a, b)
