"""Variances that are the spread of members and nothing else: their size is right on average, their inverse is not."""

from dataclasses import replace

import numpy as np
import pytest
from made_up import residuals

from race_calc.evaluate.reliability import calibrated_levels
from race_calc.uncertainty.aggregate import MemberOutputs, aggregate
from race_calc.uncertainty.calibration import fit_calibration
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.storage import from_dict, to_dict


@pytest.mark.parametrize("members", [2, 4, None])
def test_covariances_of_few_members_are_scaled_by_their_size(members):
    """d and Σ drawn alike from so few members that the mean of dᵀΣ⁻¹d is infinite, or Σ singular (members None: flat Σ)."""
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(members or 2, 300, 3))
    deviations = draws - draws.mean(axis=0)
    covariance = np.einsum("mni,mnj->nij", deviations, deviations) / len(draws)
    raw = replace(residuals(), forces=rng.normal(size=(300, 3)), forces_covariance=covariance, forces_members=members)
    calibration = fit_calibration(raw)
    assert calibration.forces.ellipsoids is None and calibration.forces.conformal == ()
    assert calibration.forces.scale == pytest.approx(np.sum(raw.forces**2) / np.einsum("nii->", covariance))
    with pytest.raises(ValueError, match="too few members"):
        calibration.forces.radius(0.9)
    assert "ellipsoids" not in calibrated_levels(raw, calibration)
    assert from_dict(to_dict(calibration)) == calibration
    assert (fit_calibration(replace(raw, forces_members=None)).forces.ellipsoids is None) == (members != 4)


def test_energies_that_are_spread_alone_are_scaled_by_their_size():
    raw = residuals(aleatoric=False)
    scale = np.sum(raw.energy**2) / np.sum(raw.energy_variance)
    for members in (3, 10):
        assert fit_calibration(replace(raw, spread_members=members)).energy.epistemic == pytest.approx(scale)
    assert fit_calibration(raw).energy.epistemic == pytest.approx(np.mean(raw.energy**2 / raw.energy_variance))


def spread_only(members, structures, rng, paired=False, truth=2.0):
    """Errors with a covariance `truth`² times that of the members; 4 atoms a structure, shapes of their own."""
    atoms = 4 * structures
    root = np.linalg.qr(rng.normal(size=(atoms, 3, 3)))[0] * rng.uniform(0.5, 2.0, size=(atoms, 1, 3))
    draws = np.einsum("nij,mnj->mni", root, rng.normal(size=(members, atoms, 3)))
    energies = rng.normal(size=(members, structures))
    if paired:
        draws[1::2], energies[1::2] = -draws[::2], -energies[::2]
    batch = np.repeat(np.arange(structures), 4)
    p = aggregate(MemberOutputs(energy=energies, forces=draws, batch=batch, paired=paired))
    return Residuals(
        energy=truth * rng.normal(size=structures),
        energy_variance=p.energy_epistemic,
        forces=truth * np.einsum("nij,nj->ni", root, rng.normal(size=(atoms, 3))),
        forces_covariance=p.forces_covariance_epistemic,
        frame=batch,
        numbers=np.ones(atoms, dtype=int),
        force_size=np.ones(atoms),
        spread_members=p.independent_members("energy"),
        forces_members=p.independent_members("forces"),
    )


@pytest.mark.parametrize("members, paired, independent", [(8, False, 8), (10, False, 10), (16, True, 9)])
def test_sigma_of_members_is_as_large_as_the_errors(members, paired, independent):
    """1500 structures calibrate, others are tested: rms σ is the RMSE, where the mean of d² over σ² makes it too large."""
    rng = np.random.default_rng(members)
    calibration, test = (spread_only(members, 1500, rng, paired) for _ in range(2))
    assert calibration.forces_members == calibration.energy_members == independent
    scaled = fit_calibration(calibration).scaled(test)
    for difference, std in ((scaled.energy, scaled.energy_std), (scaled.forces, scaled.forces_std)):
        assert np.sqrt(np.mean(std**2) / np.mean(difference**2)) == pytest.approx(1.0, abs=0.06)
    by_likelihood = fit_calibration(replace(calibration, spread_members=None, forces_members=None)).scaled(test)
    excess = np.sqrt(np.mean(by_likelihood.forces_std**2) / np.mean(test.forces**2))
    dof = independent - 1
    assert excess == pytest.approx(np.sqrt(dof / (dof - 4)), rel=0.15)  # inverse Wishart
