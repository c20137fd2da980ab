from dataclasses import replace

import numpy as np
import pytest
from made_up import residuals

from race_calc.evaluate.groups import by_element, by_size, everything, size_bounds, squared_distances
from race_calc.evaluate.reliability import nominal_levels


def test_elements_against_loops():
    raw = residuals(structures=7)
    covered = np.random.default_rng(0).random(35) < 0.5
    found = by_element(raw, covered)
    assert list(found) == [1, 6, 8] and sum(g.atoms for g in found.values()) == 35
    for z, g in found.items():
        own = raw.numbers == z
        assert g.rmse == pytest.approx(np.sqrt((raw.forces[own] ** 2).mean()))
        assert g.sigma == pytest.approx(np.sqrt(np.mean([np.trace(c) / 3 for c in raw.forces_covariance[own]])))
        assert g.covered == pytest.approx(covered[own].mean())
        pairs = zip(raw.forces[own], raw.forces_covariance[own])
        assert g.squared == pytest.approx(np.mean([d @ np.linalg.inv(c) @ d for d, c in pairs]) / 3)
    whole = everything(raw, covered)
    assert whole.atoms == 35 and whole.squared == pytest.approx(sum(g.atoms * g.squared for g in found.values()) / 35)


def test_members_too_few_for_ellipsoids_have_none():
    """Two members and no aleatoric part span a line."""
    raw = residuals(structures=7)
    spread = np.random.default_rng(0).normal(size=(len(raw.forces), 3))
    flat = replace(raw, forces_covariance=spread[:, :, None] * spread[:, None, :])
    assert squared_distances(flat) is None and everything(flat, None).squared is None
    assert "ellipsoids" not in nominal_levels(flat) and "forces" in nominal_levels(flat)
    assert squared_distances(raw) is not None and "ellipsoids" in nominal_levels(raw)


def test_sizes_cover_all_atoms_and_share_bounds():
    one, two = residuals(structures=40), residuals(structures=9, seed=1)
    bounds = size_bounds([one.force_size, two.force_size])
    for raw in (one, two):
        found = by_size(raw, None, bounds)
        assert sum(g.atoms for g in found.values()) == len(raw.forces)
        for (low, high), g in found.items():
            top = raw.force_size <= high if high == bounds[-1] else raw.force_size < high
            assert g.atoms == ((raw.force_size >= low) & top).sum() and g.covered is None


def test_equal_sizes():
    raw = residuals(structures=4)
    same = size_bounds([np.ones(20)])
    found = by_size(raw.__class__(**{**raw.__dict__, "force_size": np.ones(20)}), None, same)
    assert sum(g.atoms for g in found.values()) == 20


def test_groups_are_fifths_and_the_largest_forces():
    assert size_bounds([np.arange(51.0), np.arange(51.0, 101.0)]) == pytest.approx([0, 20, 40, 60, 80, 95, 100])


def test_forces_outside_the_bounds_belong_to_the_first_and_the_last_group():
    raw = residuals(structures=1)
    raw = raw.__class__(**{**raw.__dict__, "force_size": np.array([0.5, 1.0, 2.0, 3.0, 9.0])})
    assert {key: g.atoms for key, g in by_size(raw, None, np.array([1.0, 2.0, 3.0])).items()} == {(1.0, 2.0): 2, (2.0, 3.0): 3}
