"""Covariances of stresses: known factors are found, intervals hold their share, and Σ turns with the structure after it, too."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from race_calc.evaluate.cross_fit import cross_fitted_levels
from race_calc.evaluate.reliability import inside, nominal_levels, reliability
from race_calc.uncertainty.aggregate import MemberOutputs, aggregate
from race_calc.uncertainty.calibration import fit_calibration
from race_calc.uncertainty.mandel import mandel_covariance, mandel_vectors, voigt_covariance
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.storage import from_dict, to_dict
from race_calc.uncertainty.vectors import stresses_of


def covariances(n, rng):
    root = rng.normal(size=(n, 6, 6)) + 0.5 * np.eye(6)
    return (root @ root.swapaxes(1, 2) + 0.2 * np.eye(6)) * 1e-6 * np.exp(rng.normal(size=(n, 1, 1)))


def residuals(structures=300, factor=4.0, seed=0, lacking=()) -> Residuals:
    """Stresses whose covariance is `factor` times the predicted one; two atoms a structure, forces and energies of unit variance."""
    rng = np.random.default_rng(seed)
    parts = [voigt_covariance(covariances(structures, rng)) for _ in range(2)]
    total = parts[0] + parts[1]
    stress = np.einsum("nij,nj->ni", np.linalg.cholesky(factor * total), rng.normal(size=(structures, 6)))
    stress[list(lacking)] = np.nan
    return Residuals(
        energy=rng.normal(size=structures),
        energy_variance=np.ones(structures),
        energy_aleatoric=np.full(structures, 0.5),
        forces=rng.normal(size=(2 * structures, 3)),
        forces_covariance=np.tile(np.eye(3), (2 * structures, 1, 1)),
        forces_aleatoric=np.tile(0.5 * np.eye(3), (2 * structures, 1, 1)),
        stress=stress,
        stress_covariance=total,
        stress_aleatoric=parts[1],
        frame=np.repeat(np.arange(structures), 2),
        numbers=np.full(2 * structures, 14),
        force_size=np.ones(2 * structures),
    )


def test_a_known_factor_is_found_and_intervals_hold_their_share():
    raw = residuals(1000)
    stress = fit_calibration(raw).stress
    assert stress.form is None and stress.scale == pytest.approx(4.0, rel=0.05) and stress.dimension == 6
    assert stress.radius(0.9) == pytest.approx(np.sqrt(10.645), rel=0.05)  # of χ² with 6 degrees of freedom
    levels = nominal_levels(fit_calibration(raw).scaled(residuals(1000, seed=1)))
    for level in (0.68, 0.9, 0.95):
        assert inside(levels["stress"], level, "stress").mean() == pytest.approx(level, abs=0.02)
        assert inside(levels["stress ellipsoids"], level, "stress ellipsoids").mean() == pytest.approx(level, abs=0.04)


def test_structures_without_a_label_have_no_part_in_it():
    raw = residuals(60, lacking=range(0, 60, 2))
    some = raw.subset(np.arange(1, 60, 2))
    assert fit_calibration(raw).stress == fit_calibration(some).stress
    assert nominal_levels(raw)["stress"].shape == (30, 6)
    found = reliability(cross_fitted_levels(raw), raw.frame)
    assert found["stress"].coverage[0.9].value == pytest.approx(0.9, abs=0.1)
    assert fit_calibration(residuals(60, lacking=range(52))).stress is None  # 8 tell nothing
    assert fit_calibration(replace(raw, stress=None)).stress is None


def test_the_table_after_it_needs_no_label_in_every_block():
    """The last structures are molecules: of one block of five nobody expects a stress."""
    raw = residuals(60, lacking=range(45, 60))
    assert cross_fitted_levels(raw)["stress"].shape == (45, 6)


@pytest.mark.parametrize("broken", ["nan", "zero"])
def test_what_gives_no_scale_leaves_the_rest_calibrated(broken):
    raw = residuals(60)
    covariance = raw.stress_covariance.copy()
    if broken == "nan":  # of one structure, far out
        covariance[3] = np.nan
        assert fit_calibration(replace(raw, stress_covariance=covariance)).stress is not None
        return
    with pytest.warns(UserWarning, match="stresses are not calibrated, the rest is"):
        found = fit_calibration(replace(raw, stress_covariance=0 * covariance, stress_aleatoric=None, stress_members=8))
    assert found.stress is None and found.forces is not None


def prediction(members=8, structures=5, seed=0, turn=None):
    rng = np.random.default_rng(seed)
    stress = 1e-3 * rng.normal(size=(members, structures, 3, 3))
    stress = stress + stress.swapaxes(-1, -2)
    aleatoric = voigt_covariance(covariances(structures, rng))[None].repeat(members, 0)
    if turn is not None:
        stress, r = turn @ stress @ turn.T, mandel_turn(turn)
        aleatoric = voigt_covariance(r @ mandel_covariance(aleatoric) @ r.T)
    frames = np.arange(structures)
    outputs = MemberOutputs(
        energy=rng.normal(size=(members, structures)),
        forces=rng.normal(size=(members, structures, 3)),
        batch=frames,
        stress=stress,
        stress_cov=aleatoric,
    )
    return aggregate(outputs)


def mandel_turn(turn):
    """R (6, 6): a rotation of matrices, of Mandel vectors."""
    row, column = [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]
    columns = []
    for k in range(6):
        voigt = np.zeros(6)
        voigt[k] = 1 / mandel_vectors(np.ones(6))[k]
        matrix = np.zeros((3, 3))
        matrix[row, column] = matrix[column, row] = voigt
        columns.append(mandel_vectors((turn @ matrix @ turn.T)[row, column]))
    return np.array(columns).T


def shape_size():
    """A calibration that takes the size from the spread: the errors follow it, not the aleatoric part."""
    raw = residuals(200)
    spread = raw.stress_covariance - raw.stress_aleatoric
    size = np.trace(mandel_covariance(spread), axis1=1, axis2=2) / 6
    rng = np.random.default_rng(5)
    stress = np.sqrt(30 * size)[:, None] * rng.normal(size=(200, 6)) / mandel_vectors(np.ones(6))
    calibration = fit_calibration(replace(raw, stress=stress))
    assert calibration.stress.form is not None
    return calibration


def test_parts_make_the_total_and_turn_with_the_structure():
    calibration, turn = shape_size(), Rotation.random(rng=np.random.default_rng(2)).as_matrix()
    before, after = (calibration.apply(prediction(turn=one)) for one in (None, turn))
    for one in (before, after):
        np.testing.assert_allclose(one.stress_covariance, one.stress_covariance_epistemic + one.stress_covariance_aleatoric, rtol=1e-12)
    r, parts = mandel_turn(turn), ("stress_covariance_epistemic", "stress_covariance_aleatoric")
    for name in parts:
        expected = r @ mandel_covariance(getattr(before, name)) @ r.T
        np.testing.assert_allclose(mandel_covariance(getattr(after, name)), expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_predictions_and_residuals_are_scaled_alike():
    calibration, raw = shape_size(), prediction()
    of = Residuals(
        energy=np.zeros(5),
        forces=np.zeros((5, 3)),
        stress=np.ones((5, 6)),
        stress_covariance=raw.stress_covariance,
        stress_aleatoric=raw.stress_covariance_aleatoric,
        frame=np.arange(5),
        numbers=np.full(5, 14),
        force_size=np.ones(5),
    )
    np.testing.assert_allclose(calibration.scaled(of).stress_covariance, calibration.apply(raw).stress_covariance, rtol=1e-8, atol=1e-15)
    assert stresses_of(of).difference[0, 3] == pytest.approx(2**0.5)


def test_a_single_member_and_a_structure_without_a_volume():
    calibration = shape_size()
    single = calibration.apply(prediction(members=1))
    np.testing.assert_allclose(single.stress_covariance, calibration.stress.scale * prediction(members=1).stress_covariance, rtol=1e-10)
    raw = prediction()
    broken = {
        name: np.where(np.arange(5)[:, None, None] == 2, np.nan, getattr(raw, name))
        for name in ("stress_covariance_epistemic", "stress_covariance_aleatoric")
    }
    found = calibration.apply(replace(raw, **broken)).stress_covariance
    assert np.isnan(found[2]).all() and np.isfinite(np.delete(found, 2, axis=0)).all()


def test_storage():
    calibration = replace(shape_size(), data_hash="ab")
    state = json.loads(json.dumps(to_dict(calibration), allow_nan=False))
    assert from_dict(state) == calibration
    assert from_dict({name: value for name, value in state.items() if name != "stress"}).stress is None  # of version 2
