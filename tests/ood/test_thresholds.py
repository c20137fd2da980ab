import math

import numpy as np
import pytest

from race_calc.ood.thresholds import auto_thresholds


def test_auto_thresholds_of_a_log_normal_score():
    logs = np.random.default_rng(0).normal(-3.0, 0.4, size=200)
    found = auto_thresholds({"bald_energy": np.exp(logs)}, z=3.0)
    assert found == {"bald_energy": pytest.approx(np.exp(logs.mean() + 3.0 * logs.std(ddof=0)))}
    default = auto_thresholds({"bald_energy": np.exp(logs)})["bald_energy"]
    assert default == pytest.approx(np.exp(logs.mean() + 5.0 * logs.std()))


def test_auto_thresholds_floor_zeros_and_leave_out_what_is_not_finite():
    found = auto_thresholds({"a": np.array([0.0, 0.1, 0.2])})
    assert found == auto_thresholds({"a": np.array([0.1, 0.1, 0.2, np.nan, np.inf])})


@pytest.mark.parametrize("scores", [[], [1.0], [0.0, 1.0], [np.nan, 1.0]])
def test_a_criterion_without_two_values_is_left_out(scores):
    found = auto_thresholds({"a": np.array(scores), "b": np.array([1.0, 1.0])})
    assert found == {"b": pytest.approx(1.0)}
