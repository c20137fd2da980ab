"""AUROC, AUPR and FPR at 95 % TPR against scikit-learn, the pair count and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from race_calc.uncertainty.detection import aupr, auroc, fpr_at_95_tpr, roc

scores = st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(scores, scores)
def test_equals_scikit_learn_and_the_pair_count(known, other):
    found = auroc(known, other)
    labels = [0] * len(known) + [1] * len(other)
    assert found == pytest.approx(roc_auc_score(labels, known + other), abs=1e-12)
    a, b = np.array(known)[:, None], np.array(other)[None, :]
    assert found == pytest.approx(np.mean((b > a) + 0.5 * (b == a)), abs=1e-12)
    assert auroc(other, known) == pytest.approx(1.0 - found, abs=1e-12)


def test_closed_forms():
    assert auroc([1.0, 2.0], [3.0, 4.0, 5.0]) == 1.0
    assert auroc([3.0, 4.0], [1.0]) == 0.0
    assert auroc([1.0, 1.0], [1.0]) == 0.5
    assert auroc([1.0, 3.0], [2.0]) == 0.5
    assert auroc([1.0, 2.0], [2.0]) == 0.75


def test_only_the_order_counts():
    rng = np.random.default_rng(0)
    known, other = rng.normal(size=50), rng.normal(0.7, 1.0, size=40)
    assert auroc(np.exp(known), np.exp(other)) == auroc(known, other)


def test_nan_is_an_alarm_and_infinity_is_large():
    assert auroc([1.0, 1e300], [np.nan]) == 1.0
    assert auroc([1.0, 1e300], [np.inf]) == 1.0
    assert auroc([np.nan], [np.inf]) == 0.5
    assert auroc([np.nan], [1e300]) == 0.0


@pytest.mark.parametrize("known, other", [([], [1.0]), ([1.0], []), ([], [])])
def test_needs_both_kinds(known, other):
    for measure in (auroc, aupr, fpr_at_95_tpr):
        with pytest.raises(ValueError, match="at least one structure each"):
            measure(known, other)


@settings(max_examples=60, deadline=None)
@given(scores, scores, st.randoms())
def test_aupr_and_fpr_equal_scikit_learn_with_ties_in_any_order(known, other, random):
    labels, values = [0] * len(known) + [1] * len(other), known + other
    assert aupr(known, other) == pytest.approx(average_precision_score(labels, values), abs=1e-12)
    fpr, tpr, _ = roc_curve(labels, values, drop_intermediate=False)
    found = fpr_at_95_tpr(known, other)
    assert found == pytest.approx(fpr[tpr >= 0.95].min(), abs=1e-12)
    random.shuffle(known), random.shuffle(other)
    assert aupr(known, other) == pytest.approx(average_precision_score(labels, values), abs=1e-12)
    assert fpr_at_95_tpr(known, other) == found


def test_aupr_closed_forms():
    assert aupr([1.0, 2.0], [3.0, 4.0, 5.0]) == 1.0
    assert aupr([1.0, 1.0, 1.0], [1.0]) == 0.25  # all equal: the share of the others
    assert aupr([3.0, 4.0], [1.0]) == pytest.approx(1 / 3)
    assert aupr([1.0, 3.0], [2.0, 4.0]) == pytest.approx(0.5 * 1.0 + 0.5 * 2 / 3)
    assert aupr([1.0], [1.0, 2.0]) == pytest.approx(0.5 * 1.0 + 0.5 * 2 / 3)


def test_fpr_at_95_tpr_closed_forms():
    other = np.arange(20.0)  # 19 of 20 are at or above 1
    assert fpr_at_95_tpr([-1.0, 0.0], other) == 0.0
    assert fpr_at_95_tpr([0.5, 1.0], other) == 0.5  # equal to the threshold is an alarm
    assert fpr_at_95_tpr([0.5, 0.9], other[:19]) == 1.0  # 18 of 19 are not 95 %
    assert fpr_at_95_tpr([5.0, 5.0], [5.0]) == 1.0


def test_a_score_that_knows_nothing():
    rng = np.random.default_rng(1)
    known, other = rng.normal(size=20_000), rng.normal(size=10_000)
    assert auroc(known, other) == pytest.approx(0.5, abs=0.01)
    assert aupr(known, other) == pytest.approx(1 / 3, abs=0.01)
    assert fpr_at_95_tpr(known, other) == pytest.approx(0.95, abs=0.01)


def test_nan_is_an_alarm_for_precision_and_rate_too():
    assert aupr([1.0, 1e300], [np.nan]) == 1.0 and fpr_at_95_tpr([1.0, 1e300], [np.nan]) == 0.0
    assert aupr([np.nan], [np.inf]) == 0.5 and fpr_at_95_tpr([np.nan], [np.inf]) == 1.0
    assert aupr([np.nan], [1e300]) == 0.5 and fpr_at_95_tpr([np.nan, -np.inf], [1e300]) == 0.5
    assert aupr([-np.inf], [-np.inf, 0.0]) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_atoms_may_be_passed_in_any_shape():
    rng = np.random.default_rng(2)
    known, other = rng.normal(size=(5, 7)), rng.normal(1.0, 1.0, size=(4, 7))
    for measure in (auroc, aupr, fpr_at_95_tpr):
        assert measure(known, other) == measure(known.ravel(), other.ravel())


@settings(max_examples=40, deadline=None)
@given(scores, scores)
def test_the_area_below_the_curve_is_auroc(known, other):
    false, true = roc(known, other)
    assert (false[0], true[0], false[-1], true[-1]) == (0.0, 0.0, 1.0, 1.0)
    area = np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2)
    assert area == pytest.approx(auroc(known, other), abs=1e-12)
