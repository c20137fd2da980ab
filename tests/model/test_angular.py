"""Spherical harmonics, their derivatives and the coupling coefficients against e3nn."""

import numpy as np
import pytest
import torch
from e3nn import o3
from e3nn.io import CartesianTensor

from race_calc.model.angular import clebsch_gordan, harmonics
from race_calc.model.heads import _traceless_basis, log_covariance

L_MAX = 3
DEGREES = list(range(L_MAX + 1))


@pytest.fixture(autouse=True)
def float64():
    """e3nn makes its constants in the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Random vectors, and the axes in both directions."""
    axes = np.concatenate([np.eye(3), -np.eye(3)])
    return np.concatenate([np.random.default_rng(0).normal(size=(20, 3)), 1.7 * axes])


def solid(vectors: torch.Tensor) -> torch.Tensor:
    return o3.spherical_harmonics(DEGREES, vectors, normalize=True, normalization="component")


@pytest.mark.parametrize("l_max", DEGREES)
def test_values(vectors, l_max):
    unit = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    mine, derivative = harmonics(unit, l_max)
    theirs = solid(torch.tensor(vectors)).numpy()[:, : (l_max + 1) ** 2]
    assert derivative.shape == (*mine.shape, 3)
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-13)
    for l in range(l_max + 1):  # "component" normalisation
        np.testing.assert_allclose((mine[:, l * l : (l + 1) ** 2] ** 2).sum(1), 2 * l + 1, rtol=1e-13)


def test_derivatives_of_the_solid_harmonics(vectors):
    """|r|^l Y_lm at |r| = 1 by e3nn's polynomials (normalize=False) and autograd."""
    unit = torch.tensor(vectors / np.linalg.norm(vectors, axis=1)[:, None])
    polynomial = lambda v: o3.spherical_harmonics(DEGREES, v, normalize=False, normalization="component")  # noqa: E731
    exact = torch.autograd.functional.jacobian(lambda v: polynomial(v).sum(0), unit).permute(1, 0, 2)
    np.testing.assert_allclose(harmonics(unit.numpy(), L_MAX)[1], exact, rtol=0, atol=1e-12)


def test_derivatives_to_the_vector(vectors):
    """After the projector of the layout, (1 - r̂ r̂ᵀ) / r, they are dY(r̂)/dr."""
    distance = np.linalg.norm(vectors, axis=1)
    unit = vectors / distance[:, None]
    projector = (np.eye(3) - unit[:, :, None] * unit[:, None, :]) / distance[:, None, None]
    mine = harmonics(unit, L_MAX)[1] @ projector
    h = 1e-3
    for axis in range(3):
        step = h * torch.eye(3, dtype=torch.float64)[axis]
        at = [solid(torch.tensor(vectors) + k * step).numpy() for k in (-2, -1, 1, 2)]
        numeric = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
        np.testing.assert_allclose(mine[:, :, axis], numeric, rtol=0, atol=1e-7)


@pytest.mark.parametrize("l", DEGREES)
def test_coupling_with_a_scalar_is_the_identity(l):
    """The model relies on it: such paths are plain products."""
    np.testing.assert_allclose(clebsch_gordan(l, 0, l)[:, 0, :], np.eye(2 * l + 1), atol=1e-14)
    np.testing.assert_allclose(clebsch_gordan(0, l, l)[0], np.eye(2 * l + 1), atol=1e-14)


def test_coupling_of_e3nn():
    for l1, l2, l3 in [(1, 1, 1), (1, 2, 3), (3, 2, 1), (2, 2, 2), (3, 3, 3)]:
        product = o3.TensorProduct(f"1x{l1}e", f"1x{l2}e", f"1x{l3}e", [(0, 0, 0, "uvu", False)])
        a, b = torch.randn(2 * l1 + 1), torch.randn(2 * l2 + 1)
        mine = np.einsum("a,b,abc->c", a, b, clebsch_gordan(l1, l2, l3))
        np.testing.assert_allclose(product(a, b), mine, atol=1e-13)


def test_coefficients_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        clebsch_gordan(1, 1, 2)[0, 0, 0] = 1.0


def test_traceless_basis_is_that_of_the_cartesian_tensor():
    """Same matrices as CartesianTensor("ij=ji"), sign included; each is symmetric and traceless."""
    basis = _traceless_basis()
    theirs = CartesianTensor("ij=ji").reduced_tensor_products().change_of_basis.numpy()
    np.testing.assert_allclose(basis, theirs[1:], atol=1e-14)
    np.testing.assert_allclose(theirs[0], np.eye(3) / np.sqrt(3), atol=1e-14)
    np.testing.assert_allclose(basis, basis.transpose(0, 2, 1), atol=1e-14)
    np.testing.assert_allclose(np.trace(basis, axis1=1, axis2=2), 0, atol=1e-14)
    np.testing.assert_allclose(np.einsum("aij,bij->ab", basis, basis), np.eye(5), atol=1e-14)


def test_log_covariance_rotates_and_has_the_trace():
    rng = torch.Generator().manual_seed(0)
    trace, tensor, offset = (torch.randn(shape, generator=rng) for shape in ((2, 4), (2, 4, 5), (2,)))
    s = log_covariance(trace, tensor, offset)
    torch.testing.assert_close(s.diagonal(dim1=-2, dim2=-1).sum(-1), 3 * (trace + offset[:, None]))
    q = -o3.angles_to_matrix(*torch.tensor([0.3, 1.1, -2.0]))
    d = o3.Irrep("2e").D_from_matrix(q)
    turned = log_covariance(trace, tensor @ d.T, offset)
    torch.testing.assert_close(turned, q @ s @ q.T, rtol=0, atol=1e-12)
