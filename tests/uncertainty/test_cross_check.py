"""The same numbers from scikit-learn and uncertainty-toolbox, which take seconds to import."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from uncertainty_toolbox import get_proportion_lists_vectorized, iso_recal
from uncertainty_toolbox import root_mean_squared_calibration_error as toolbox_calibration
from uncertainty_toolbox import sharpness as toolbox_sharpness

from race_calc.uncertainty.level_map import fit_level_map
from race_calc.uncertainty.metrics import NOMINAL_LEVELS, calibration_error, gaussian_pit, sharpness


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 200), st.floats(0.2, 5.0), st.integers(0, 10_000))
def test_calibration_error_and_sharpness_are_those_of_uncertainty_toolbox(n, scale, seed):
    """It takes prediction − reference, and its 101 levels count the ends, which are right by definition."""
    rng = np.random.default_rng(seed)
    std = rng.uniform(0.5, 2.0, size=n)
    difference = scale * std * rng.normal(0.3, 1.0, size=n)
    theirs = toolbox_calibration(difference, std, np.zeros(n), num_bins=101, vectorized=True, prop_type="quantile")
    assert calibration_error(difference, std) == pytest.approx(theirs**2 * 101 / 99, abs=1e-12)
    assert sharpness(std) == pytest.approx(toolbox_sharpness(std), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(0, 10_000))
def test_map_is_the_isotonic_regression_of_scikit_learn(n, seed):
    pit = np.random.default_rng(seed).beta(0.5, 0.8, size=n)
    shares = (np.argsort(np.argsort(pit)) + 1.0) / (n + 1)
    theirs = IsotonicRegression(y_min=0.0, y_max=1.0).fit(np.r_[0.0, pit, 1.0], np.r_[0.0, shares, 1.0])
    ask = np.linspace(0.0, 1.0, 77)
    assert fit_level_map(pit).observed(ask) == pytest.approx(theirs.predict(ask), abs=1e-9)


def test_map_agrees_with_uncertainty_toolbox():
    """Its map goes from observed to nominal shares on a grid of 1 %, for prediction − reference."""
    difference = np.random.default_rng(7).normal(0.2, 1.7, size=3000)
    std, zero = np.ones(3000), np.zeros(3000)
    theirs = iso_recal(*get_proportion_lists_vectorized(difference, std, zero, 101, prop_type="quantile"))
    found = fit_level_map(gaussian_pit(difference, std)).nominal(NOMINAL_LEVELS)
    assert found == pytest.approx(theirs.predict(NOMINAL_LEVELS), abs=0.012)
