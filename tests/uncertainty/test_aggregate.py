"""Aggregation against NumPy's own covariance, atom by atom."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from race_calc.uncertainty.aggregate import MemberOutputs, aggregate
from race_calc.uncertainty.prediction import available

BATCH = np.array([0, 0, 0, 1, 1])
VOIGT = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]


def outputs(members=4, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(members, 5, 3, 3))
    stress = rng.normal(size=(members, 2, 3, 3))
    return dict(
        energy=rng.normal(-100.0, 1.0, size=(members, 2)),
        atom_energy=rng.normal(size=(members, 5)),
        forces=rng.normal(size=(members, 5, 3)),
        stress=stress + stress.swapaxes(-1, -2),
        energy_var=rng.uniform(0.1, 1.0, size=(members, 2)),
        force_cov=root @ root.swapaxes(-1, -2) + 0.1 * np.eye(3),
        batch=BATCH,
    )


def rotation(seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q


def voigt_rotation(q):
    """6×6 matrix of s → q s qᵀ on Voigt components (no factors of two)."""
    columns = []
    for i, j in VOIGT:
        basis = np.zeros((3, 3))
        basis[i, j] = basis[j, i] = 1.0
        rotated = q @ basis @ q.T
        columns.append([rotated[a, b] for a, b in VOIGT])
    return np.array(columns).T


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000))
def test_means_and_population_covariances(members, seed):
    o = outputs(members, seed)
    p = aggregate(MemberOutputs(**o))
    assert p.n_members == members
    np.testing.assert_allclose(p.energy, o["energy"].mean(0), rtol=1e-14)
    np.testing.assert_allclose(p.energies, o["atom_energy"].mean(0), rtol=1e-12)
    np.testing.assert_allclose(p.forces, o["forces"].mean(0), rtol=1e-12)
    np.testing.assert_allclose(p.energy_epistemic, o["energy"].var(0, ddof=0), rtol=1e-10)
    np.testing.assert_allclose(p.energy_aleatoric, o["energy_var"].mean(0), rtol=1e-12)
    for atom in range(5):
        np.testing.assert_allclose(p.forces_covariance_epistemic[atom], np.cov(o["forces"][:, atom].T, ddof=0), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(p.forces_covariance_aleatoric, o["force_cov"].mean(0), rtol=1e-12)
    for b in range(2):
        voigt = np.array([[s[i, j] for i, j in VOIGT] for s in o["stress"][:, b]])  # (M, 6)
        np.testing.assert_allclose(p.stress[b], voigt.mean(0), rtol=1e-12)
        np.testing.assert_allclose(p.stress_covariance_epistemic[b], np.cov(voigt.T, ddof=0), rtol=1e-10, atol=1e-14)


def test_total_is_epistemic_plus_aleatoric():
    p = aggregate(MemberOutputs(**outputs()))
    np.testing.assert_array_equal(p.energy_variance, p.energy_epistemic + p.energy_aleatoric)
    np.testing.assert_array_equal(p.forces_covariance, p.forces_covariance_epistemic + p.forces_covariance_aleatoric)


@pytest.mark.parametrize("seed", range(5))
def test_covariances_and_bald_under_rotation_and_reflection(seed):
    q = rotation(seed) * (-1) ** seed
    o = outputs(seed=seed)
    turned = o | dict(forces=o["forces"] @ q.T, stress=q @ o["stress"] @ q.T, force_cov=q @ o["force_cov"] @ q.T)
    p, r = aggregate(MemberOutputs(**o)), aggregate(MemberOutputs(**turned))
    for name in ("forces_covariance_epistemic", "forces_covariance_aleatoric"):
        np.testing.assert_allclose(getattr(r, name), q @ getattr(p, name) @ q.T, atol=1e-12)
    t = voigt_rotation(q)
    np.testing.assert_allclose(r.stress, p.stress @ t.T, atol=1e-12)
    np.testing.assert_allclose(r.stress_covariance_epistemic, t @ p.stress_covariance_epistemic @ t.T, atol=1e-11)
    np.testing.assert_allclose(r.bald_forces, p.bald_forces, atol=1e-12)


def test_one_member_has_no_epistemic_part_and_no_bald():
    p = aggregate(MemberOutputs(**outputs(members=1)))
    assert not any(name.endswith("_epistemic") for name in available(p))
    np.testing.assert_array_equal(p.energy_epistemic, 0.0)
    np.testing.assert_array_equal(p.forces_covariance_epistemic, 0.0)
    np.testing.assert_array_equal(p.stress_covariance_epistemic, 0.0)
    assert p.bald_energy is None and p.bald_forces is None
    np.testing.assert_array_equal(p.energy_variance, p.energy_aleatoric)


def test_what_is_not_given_is_none():
    p = aggregate(MemberOutputs(**outputs() | dict(stress=None, energy_var=None, force_cov=None)))
    for name in (
        "stress",
        "stress_covariance_epistemic",
        "stress_uncertainty",
        "energy_aleatoric",
        "forces_covariance_aleatoric",
        "bald_energy",
        "bald_forces",
    ):
        assert getattr(p, name) is None, name


def test_float32_is_summed_in_float64():
    o = outputs() | dict(energy=np.full((10, 2), -17660.125, dtype=np.float32))
    for name in ("atom_energy", "forces", "stress", "energy_var", "force_cov"):
        o[name] = np.concatenate([o[name]] * 3)[:10].astype(np.float32)
    p = aggregate(MemberOutputs(**o))
    assert p.energy.dtype == p.forces_covariance.dtype == np.float64
    np.testing.assert_array_equal(p.energy, -17660.125)
    np.testing.assert_array_equal(p.energy_epistemic, 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_broken_member_passes_through_and_stays_with_its_structure(bad):
    o = outputs()
    o["forces"][1, 4] = bad
    o["energy"][1, 1] = bad
    p = aggregate(MemberOutputs(**o))
    assert not np.isfinite(p.energy_epistemic[1]) and np.isfinite(p.energy_epistemic[0])
    assert not np.isfinite(p.bald_energy[1]) and np.isfinite(p.bald_energy[0])
    np.testing.assert_array_equal(np.isfinite(p.bald_forces), [True] * 4 + [False])


@pytest.mark.parametrize(
    "change",
    [
        dict(forces=np.zeros((3, 5, 3))),
        dict(stress=np.zeros((4, 2, 6))),
        dict(atom_energy=np.zeros((4, 6))),
        dict(energy=np.zeros(2)),
        dict(batch=np.zeros(5)),
    ],
    ids=lambda change: next(iter(change)),
)
def test_shapes_that_do_not_fit_are_named(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        aggregate(MemberOutputs(**outputs() | change))


def test_totals_and_bald_against_monte_carlo():
    """Draws from the mixture of members: choose one, then draw from its Gaussian. The covariance of the draws is the total;
    BALD is the entropy of the Gaussian of that covariance, as minus its mean log-density over draws, less the members'."""
    o, n = outputs(4, seed=2), 200_000
    p = aggregate(MemberOutputs(**o))
    rng = np.random.default_rng(0)
    chosen = rng.integers(4, size=n)
    energy = o["energy"][chosen, 0] + np.sqrt(o["energy_var"][chosen, 0]) * rng.normal(size=n)
    total = p.energy_variance[0]
    assert energy.mean() == pytest.approx(p.energy[0], abs=5 * np.sqrt(total / n))
    assert energy.var() == pytest.approx(total, rel=5 * np.sqrt(2 / n))
    roots = np.linalg.cholesky(o["force_cov"][:, 3])
    draws = o["forces"][chosen, 3] + np.einsum("nij,nj->ni", roots[chosen], rng.normal(size=(n, 3)))
    np.testing.assert_allclose(np.cov(draws.T), p.forces_covariance[3], atol=8 * p.forces_covariance[3].max() / np.sqrt(n))
    entropies = [
        -multivariate_normal(cov=c).logpdf(multivariate_normal(cov=c).rvs(n, random_state=k)).mean()
        for k, c in enumerate([p.forces_covariance[3], *o["force_cov"][:, 3]])
    ]
    assert p.bald_forces[3] == pytest.approx(entropies[0] - np.mean(entropies[1:]), abs=5 * 2 * np.sqrt(1.5 / n))


def test_forces_known_only_in_the_mean():
    o = outputs(4)
    whole = aggregate(MemberOutputs(**o))
    mean = {name: o[name].mean(0, keepdims=True) for name in ("forces", "stress")}
    p = aggregate(MemberOutputs(**(o | mean)))
    np.testing.assert_allclose(p.forces, whole.forces, rtol=1e-12)
    np.testing.assert_allclose(p.stress, whole.stress, rtol=1e-12)
    np.testing.assert_allclose(p.energy_epistemic, whole.energy_epistemic, rtol=1e-12)
    assert {"bald_energy", "energy_uncertainty_epistemic"} <= available(p) and "forces_covariance_epistemic" not in available(p)
    for name in (
        "forces_covariance_epistemic",
        "stress_covariance_epistemic",
        "bald_forces",
        "forces_members",
        "stress_members",
        "stress_covariance",
        "forces_covariance",
        "forces_uncertainty",
    ):
        assert getattr(p, name) is None, name
    np.testing.assert_allclose(p.forces_covariance_aleatoric, whole.forces_covariance_aleatoric)


def test_an_epistemic_energy_in_closed_form_takes_the_place_of_the_spread():
    o = outputs(4)
    p = aggregate(MemberOutputs(**o, energy_epistemic=np.array([0.5, 2.0])))
    np.testing.assert_array_equal(p.energy_epistemic, [0.5, 2.0])
    expected = 0.5 * (np.log(o["energy_var"].mean(0) + [0.5, 2.0]) - np.log(o["energy_var"]).mean(0))
    np.testing.assert_allclose(p.bald_energy, expected, rtol=1e-12)
