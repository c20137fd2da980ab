"""Totals of a Prediction and the longest principal axis."""

import numpy as np
import pytest

from race_calc.prediction import Prediction, principal_std


def make(n_members=3, aleatoric=True, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(5, 3, 3))
    return Prediction(
        energy=rng.normal(size=2),
        energies=rng.normal(size=5),
        forces=rng.normal(size=(5, 3)),
        energy_epistemic=np.array([0.04, 0.25]),
        energy_aleatoric=np.array([0.05, 0.11]) if aleatoric else None,
        forces_covariance_epistemic=root @ root.swapaxes(-1, -2),
        forces_covariance_aleatoric=np.tile(np.eye(3), (5, 1, 1)) if aleatoric else None,
        stress=rng.normal(size=(2, 6)),
        stress_covariance_epistemic=np.tile(4.0 * np.eye(6), (2, 1, 1)),
        batch=np.array([0, 0, 1, 1, 1]),
        n_members=n_members,
    )


def test_totals_are_epistemic_plus_aleatoric():
    p = make()
    np.testing.assert_allclose(p.energy_variance, [0.09, 0.36])
    np.testing.assert_allclose(p.energy_uncertainty, [0.3, 0.6])
    np.testing.assert_array_equal(p.forces_covariance, p.forces_covariance_epistemic + np.eye(3))
    np.testing.assert_allclose(p.forces_uncertainty[3, 1] ** 2, p.forces_covariance[3, 1, 1])
    assert p.forces_uncertainty.shape == (5, 3)
    np.testing.assert_allclose(p.stress_uncertainty, np.full((2, 6), 2.0))
    np.testing.assert_array_equal(p.n_atoms, [2, 3])


def test_members_without_an_aleatoric_part_give_the_epistemic_total():
    p = make(aleatoric=False)
    np.testing.assert_array_equal(p.energy_variance, p.energy_epistemic)
    np.testing.assert_array_equal(p.forces_covariance, p.forces_covariance_epistemic)


def test_one_member_without_an_aleatoric_part_claims_no_certainty():
    p = make(n_members=1, aleatoric=False)
    assert p.energy_variance is None and p.energy_uncertainty is None
    assert p.forces_covariance is None and p.forces_uncertainty is None
    assert p.stress_uncertainty is None


def test_is_frozen():
    with pytest.raises(AttributeError):
        make().n_members = 7


def test_principal_std_does_not_depend_on_the_orientation():
    rng = np.random.default_rng(1)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    covariance = q @ np.diag([0.01, 4.0, 1.0]) @ q.T
    assert principal_std(covariance) == pytest.approx(2.0, rel=1e-12)


def test_principal_std_of_broken_atoms_is_nan_and_of_others_not():
    covariance = np.tile(np.eye(3), (3, 1, 1))
    covariance[0, 1, 1] = np.nan
    covariance[1, 0, 0] = np.inf
    np.testing.assert_array_equal(np.isnan(principal_std(covariance)), [True, True, False])
