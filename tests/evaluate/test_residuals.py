from dataclasses import replace

import numpy as np
import pytest
from made_up import residuals


def test_a_subset_keeps_atoms_with_their_structures():
    raw = residuals(structures=6, atoms=4)
    part = raw.subset(np.array([4, 1]))
    assert len(part) == 2 and set(part.frame) == {0, 1}
    for new, old in ((0, 4), (1, 1)):
        assert part.energy[new] == raw.energy[old] and part.energy_aleatoric[new] == raw.energy_aleatoric[old]
        np.testing.assert_array_equal(part.forces[part.frame == new], raw.forces[raw.frame == old])
        np.testing.assert_array_equal(part.forces_covariance[part.frame == new], raw.forces_covariance[raw.frame == old])
        np.testing.assert_array_equal(part.force_size[part.frame == new], raw.force_size[raw.frame == old])


def test_standard_deviations():
    raw = residuals()
    np.testing.assert_allclose(raw.energy_std**2, raw.energy_variance)
    np.testing.assert_allclose(raw.forces_std[3] ** 2, np.diag(raw.forces_covariance[3]))
    bare = replace(raw, energy_variance=None, energy_aleatoric=None, forces_covariance=None)
    assert bare.energy_std is None and bare.forces_std is None
    assert bare.subset(np.array([0])).forces_covariance is None


@pytest.mark.parametrize(
    "change",
    [
        {"energy": np.zeros(3)},
        {"forces": np.zeros((5, 3))},
        {"forces_covariance": np.zeros((300, 3))},
        {"energy_variance": np.ones((60, 1))},
        {"frame": np.zeros(300, dtype=int)},
        {"numbers": np.ones(7)},
    ],
)
def test_shapes_that_do_not_fit(change):
    with pytest.raises(ValueError, match="expected|frame must number"):
        replace(residuals(), **change)


def test_no_structures():
    raw = residuals()
    with pytest.raises(ValueError, match="no structures"):
        raw.subset(np.array([], dtype=int))
