"""The unified score: its ends, its order and what it refuses."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from race_calc.evaluate.unified_score import CE_MAX, Errors, mean_term, unified_terms
from race_calc.uncertainty.metrics import NOMINAL_LEVELS, level_error

PERFECT = {"rmse_energy": 0.0, "rmse_forces": 0.0, "ce_energy": 0.0, "ce_forces": 0.0, "auroc": 1.0}
WORST = {"rmse_energy": math.inf, "rmse_forces": math.inf, "ce_energy": CE_MAX, "ce_forces": CE_MAX, "auroc": 0.0}
REFERENCE = {"reference_energy": 0.007, "reference_forces": 0.03}


def terms(auroc, reference_energy, reference_forces, **errors):
    return unified_terms(Errors(**errors), auroc, reference_energy, reference_forces)


def score(**changed):
    return mean_term(terms(**{**PERFECT, **REFERENCE, **changed}))


def test_ends():
    assert score() == 0.0
    assert score(**WORST) == 1.0
    assert score(**{**WORST, "auroc": 0.5}) == 1.0


def test_the_largest_calibration_error_is_that_of_the_metric():
    assert level_error(np.full(10, np.nan)) == pytest.approx(CE_MAX, rel=1e-12)
    assert score(ce_energy=level_error(np.zeros(10)), ce_forces=level_error(np.ones(10))) <= 0.4 + 1e-12


def test_known_values():
    """At the references, with σ half as large as it should be and an AUROC of 0.9."""
    half = np.mean((norm.cdf(0.5 * norm.ppf(NOMINAL_LEVELS)) - NOMINAL_LEVELS) ** 2)
    given = {"rmse_energy": 0.007, "rmse_forces": 0.015, "ce_energy": half, "ce_forces": CE_MAX / 4, "auroc": 0.9}
    expected = {"rmse_energy": 1 / 2, "rmse_forces": 1 / 3, "ce_energy": 0.1983, "ce_forces": 1 / 2, "auroc": 0.2}
    assert terms(**given, **REFERENCE) == pytest.approx(expected, abs=1e-4)
    assert score(**given) == pytest.approx(sum(expected.values()) / 5, abs=1e-4)


values = st.fixed_dictionaries(
    {
        "rmse_energy": st.floats(0, 1e300),
        "rmse_forces": st.floats(0, 1e300),
        "ce_energy": st.floats(0, CE_MAX),
        "ce_forces": st.floats(0, CE_MAX),
        "auroc": st.floats(0, 1),
    }
)


@given(values, values)
def test_bounded_and_worse_in_no_term_is_not_worse(one, other):
    better = {name: (max if name == "auroc" else min)(one[name], other[name]) for name in one}
    assert 0.0 <= score(**better) <= min(score(**one), score(**other)) + 1e-15 <= 1.0 + 1e-15


@pytest.mark.parametrize(
    "name, worse", [("rmse_energy", 1e-4), ("rmse_forces", 1e-4), ("ce_energy", 1e-4), ("ce_forces", 1e-4), ("auroc", 0.99)]
)
def test_every_term_counts(name, worse):
    assert score(**{name: worse}) > 1e-4


def test_units_do_not_count():
    milli = score(rmse_energy=5.0, rmse_forces=40.0, reference_energy=7.0, reference_forces=30.0)
    assert milli == pytest.approx(score(rmse_energy=0.005, rmse_forces=0.04), rel=1e-12)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("rmse_energy", -1e-3, "RMSE of energies"),
        ("rmse_forces", math.nan, "RMSE of forces"),
        ("ce_energy", -0.01, "between 0 and 0.3317"),
        ("ce_forces", 0.34, "between 0 and 0.3317"),
        ("ce_forces", math.nan, "between 0"),
        ("auroc", 1.01, "between 0 and 1"),
        ("auroc", -0.1, "AUROC"),
        ("reference_energy", 0.0, "reference RMSE of energies"),
        ("reference_forces", math.inf, "positive number"),
        ("reference_forces", math.nan, "positive number"),
    ],
)
def test_impossible_input_is_refused(name, value, message):
    with pytest.raises(ValueError, match=message):
        score(**{name: value})


def test_rounding_above_the_largest_calibration_error_is_forgiven():
    assert terms(**{**PERFECT, "ce_energy": CE_MAX}, **REFERENCE)["ce_energy"] == pytest.approx(1.0)
    terms(**{**PERFECT, "ce_energy": CE_MAX * (1 + 5e-13)}, **REFERENCE)
    with pytest.raises(ValueError, match="calibration error of energies"):
        terms(**{**PERFECT, "ce_energy": CE_MAX * (1 + 1e-11)}, **REFERENCE)
