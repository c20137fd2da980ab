"""AUROC against scikit-learn, the pair count and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from race_calc.ood.detection import auroc

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
    with pytest.raises(ValueError, match="at least one structure each"):
        auroc(known, other)
