"""The distance of features from those of the training against its definition, and where there is little to tell it from."""

import numpy as np
import pytest

from race_calc.uncertainty.feature_distance import RIDGE, SHARED, fit_feature_distance

WIDTH = 5


def features(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, WIDTH)) @ rng.normal(size=(WIDTH, WIDTH)) + 3.0


def fit(x, species, n_species):
    """In batches of unequal size."""
    cuts = [0, 1, len(x) // 3, len(x)]
    return fit_feature_distance([(x[a:b], species[a:b]) for a, b in zip(cuts, cuts[1:]) if b > a], n_species)


def test_is_the_mahalanobis_distance_of_each_element():
    x, species = features(), np.arange(60) % 3 % 2  # 40 atoms of one element, 20 of the other
    distance, new = fit(x, species, 2), features(7, seed=1)
    covariances = [np.cov(x[species == z].T, bias=True) for z in (0, 1)]
    pooled = (40 * covariances[0] + 20 * covariances[1]) / 60
    for z, count in ((0, 40), (1, 20)):
        covariance = (count * covariances[z] + SHARED * pooled) / (count + SHARED)
        inverse = np.linalg.inv(covariance + RIDGE * np.trace(covariance) / (count + SHARED) * np.eye(WIDTH))
        d = new - x[species == z].mean(axis=0)
        expected = np.sqrt(np.einsum("ni,ij,nj->n", d, inverse, d) / WIDTH)
        np.testing.assert_allclose(distance(new, np.full(7, z)), expected, rtol=1e-8)
    assert np.mean(distance(x, species) ** 2) == pytest.approx(1.0, abs=0.1)  # of the training itself


def test_a_rare_element_is_no_further_than_the_others():
    """One atom or three among thousands: without a share in the spread of the others its distances would be thousands."""
    x = features(2000)
    for rare in (1, 3):
        species = (np.arange(2000) < rare).astype(int)
        distance, new = fit(x, species, 2), features(200, seed=1)
        common, other = (np.median(distance(new, np.full(200, z))) for z in (0, 1))
        assert 0.5 * common < other < 5 * common


def test_each_atom_is_told_by_its_own_element():
    x, species = features(), np.arange(60) % 2
    distance = fit(x, species, 2)
    mixed = distance(x, species)
    np.testing.assert_array_equal(mixed[species == 1], distance(x[species == 1], species[species == 1]))


def test_an_element_without_training_atoms_is_infinitely_far():
    distance = fit(features(), np.zeros(60, dtype=int), 2)
    found = distance(features(2, seed=1), np.array([0, 1]))
    assert np.isfinite(found[0]) and found[1] == np.inf


@pytest.mark.parametrize("n", (1, 2, 4))
def test_few_atoms_and_atoms_that_are_all_alike_give_finite_distances(n):
    for x in (features(n), np.repeat(features(1), n, axis=0), np.zeros((n, WIDTH))):
        distance = fit(x, np.zeros(n, dtype=int), 1)
        found = distance(np.stack([x[0], x[0] + 1.0]), np.zeros(2, dtype=int))
        assert np.isfinite(found).all() and found[1] > found[0]
        assert np.isfinite(distance.whitening.astype(np.float32)).all()  # as it is stored


def test_features_that_are_not_finite_are_refused():
    x = features()
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match="not finite: look for"):
        fit(x, np.zeros(60, dtype=int), 1)
