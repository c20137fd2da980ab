"""Totals of a Prediction and the longest principal axis."""

import numpy as np
import pytest

from race_calc.uncertainty.prediction import QUANTITIES, Prediction, available, principal_std, quantities


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


def test_a_variance_of_unknown_kind_is_a_total_without_parts():
    whole = make()
    given = dict(energy=whole.energy, forces=whole.forces, batch=whole.batch, energy_unsplit=whole.energy_variance)
    p = Prediction(**given, forces_covariance_unsplit=whole.forces_covariance, rotates=False)
    assert available(p) == {
        "energy",
        "free_energy",
        "forces",
        "calibrated",
        "energy_uncertainty",
        "forces_uncertainty",
        "forces_covariance",
    }
    np.testing.assert_array_equal(p.energy_uncertainty, whole.energy_uncertainty)
    np.testing.assert_array_equal(p.forces_covariance, whole.forces_covariance)
    assert p.stress_uncertainty is None and p.value("energies") is None and p.value("forces_uncertainty_epistemic") is None
    with pytest.raises(ValueError, match="energy_unsplit and parts"):
        Prediction(**given, energy_aleatoric=whole.energy_aleatoric)


@pytest.mark.parametrize("members, aleatoric", [(3, True), (3, False), (1, True), (1, False)])
def test_available_is_what_has_a_value(members, aleatoric):
    p = make(members, aleatoric)
    assert {name for name in QUANTITIES if p.value(name) is not None} == available(p) <= set(QUANTITIES)
    fields = [name for name, value in vars(p).items() if value is not None]
    assert quantities(fields, members) == available(p)
    assert ("energy_uncertainty_epistemic" in available(p)) is (members > 1)
    assert ("forces_uncertainty_aleatoric" in available(p)) is aleatoric
    np.testing.assert_array_equal(p.value("free_energy"), p.energy)


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
