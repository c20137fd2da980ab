"""The whole calibration: known factors are found, predictions keep their symmetry, storage loses nothing."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from made_up import residuals
from scipy.spatial.transform import Rotation

from race_calc.evaluate.cross_fit import cross_fitted_levels
from race_calc.evaluate.reliability import calibrated_levels, inside, nominal_levels, reliability
from race_calc.uncertainty.aggregate import MemberOutputs, aggregate
from race_calc.uncertainty.bald import bald_energy
from race_calc.uncertainty.calibration import fit_calibration
from race_calc.uncertainty.conformal import conformal_quantile
from race_calc.uncertainty.metrics import chi_square_pit, gaussian_nll, level_error, mahalanobis
from race_calc.uncertainty.scaling import RATIOS, part_scales
from race_calc.uncertainty.storage import from_dict, to_dict

BIG = {"structures": 2000, "atoms": 3}


def prediction(members=4, seed=1, aleatoric=True, energies=1.0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(members, 5, 3, 3))
    return aggregate(
        MemberOutputs(
            energy=energies * rng.normal(size=(members, 2)),
            atom_energy=rng.normal(size=(members, 5)),
            forces=rng.normal(size=(members, 5, 3)),
            stress=None,
            energy_var=rng.uniform(0.1, 1.0, size=(members, 2)) if aleatoric else None,
            force_cov=root @ root.swapaxes(-1, -2) + 0.1 * np.eye(3) if aleatoric else None,
            batch=np.array([0, 0, 0, 1, 1]),
        )
    )


def test_known_factors_are_found():
    found = fit_calibration(residuals(energy_factor=4.0, force_factor=0.25, **BIG))
    assert found.forces.scale == pytest.approx(0.25, rel=0.05)
    assert found.energy.epistemic == pytest.approx(4.0, rel=0.3) and found.energy.aleatoric == pytest.approx(4.0, rel=0.3)
    low, high = found.energy.interval(0.9)
    assert low == pytest.approx(-1.645, abs=0.1) and high == pytest.approx(1.645, abs=0.1)
    assert found.forces.interval(0.9) == pytest.approx((-1.645, 1.645), abs=0.05)
    assert found.forces.radius(0.95) == pytest.approx(math.sqrt(7.815), abs=0.1)
    multiples = {q.level: q.quantile for q in found.energy.conformal}
    assert multiples[0.9] == pytest.approx(1.645, abs=0.15)


def test_new_data_are_found_where_they_should_be():
    calibration = fit_calibration(residuals(seed=0, **BIG))
    new = residuals(seed=1, **BIG)
    before, after = nominal_levels(new), calibrated_levels(new, calibration)
    for name in ("energy", "forces", "ellipsoids"):
        assert level_error(before[name]) > 0.005 > 5e-4 > level_error(after[name]), name
        for level in (0.68, 0.9, 0.95):
            assert abs(inside(after[name], level, name).mean() - level) < 0.03
    quality = reliability(after, new.frame)
    assert quality["forces"].coverage[0.9].low < 0.9 < quality["forces"].coverage[0.9].high
    assert quality["energy"].calibration_error.low <= quality["energy"].calibration_error.value


def test_ratios_of_the_two_factors_go_from_a_thousandth_to_one():
    assert len(RATIOS) == 61 and RATIOS[[0, 20, 40, 60]] == pytest.approx([1e-3, 1e-2, 1e-1, 1.0])


def test_the_two_parts_of_an_energy_variance_get_their_own_factors():
    rng = np.random.default_rng(3)
    epistemic, aleatoric = np.exp(rng.normal(size=4000)), np.exp(rng.normal(size=4000))
    d = rng.normal(size=4000) * np.sqrt(2.0 * epistemic + 0.1 * aleatoric)
    c_e, c_a = part_scales(d, epistemic, aleatoric)
    assert c_e == pytest.approx(2.0, rel=0.15) and c_a == pytest.approx(0.1, rel=0.4)
    nll = lambda a, b: gaussian_nll(d, a * epistemic + b * aleatoric)  # noqa: E731
    grid = [(c_e * 1.05, c_a), (c_e / 1.05, c_a), (c_e, c_a * 1.3), (c_e, c_a / 1.3)]
    assert all(nll(c_e, c_a) < nll(*other) for other in grid)
    assert part_scales(d, epistemic, 0 * aleatoric) == pytest.approx([np.mean(d**2 / epistemic)] * 2)
    assert part_scales(d, 0 * epistemic, aleatoric) == pytest.approx([np.mean(d**2 / aleatoric)] * 2)
    other_way = rng.normal(size=4000) * np.sqrt(0.1 * epistemic + 2.0 * aleatoric)
    assert part_scales(other_way, epistemic, aleatoric) == pytest.approx([np.mean(other_way**2 / (epistemic + aleatoric))] * 2)
    only = rng.normal(size=4000) * np.sqrt(epistemic)
    c_e, c_a = part_scales(only, epistemic, aleatoric)
    assert c_a / c_e >= RATIOS[0] and c_e == pytest.approx(1.0, rel=0.1)
    with pytest.raises(ValueError, match="not positive"):
        part_scales(d, -epistemic, aleatoric)
    with pytest.raises(ValueError, match="negative"):
        part_scales(d, epistemic + 2 * aleatoric, -aleatoric)


def test_apply_scales_both_parts_and_leaves_the_rest():
    calibration = fit_calibration(residuals())
    before = prediction()
    after = calibration.apply(before)
    assert after.calibrated and not before.calibrated
    np.testing.assert_allclose(after.forces_covariance, calibration.forces.scale * before.forces_covariance)
    np.testing.assert_allclose(after.energy_epistemic, calibration.energy.epistemic * before.energy_epistemic)
    np.testing.assert_allclose(after.energy_aleatoric, calibration.energy.aleatoric * before.energy_aleatoric)
    for name in ("energy", "energies", "forces", "bald_forces", "energies_members", "forces_members"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_bald_of_the_energy_is_that_of_the_calibrated_variances():
    rng = np.random.default_rng(0)
    calibration = fit_calibration(residuals(energy_factor=0.1))
    energies, variances = rng.normal(size=(4, 7)), rng.uniform(0.1, 1.0, size=(4, 7))
    p = aggregate(MemberOutputs(energies, rng.normal(size=(4, 7, 3)), np.arange(7), energy_var=variances))
    expected = bald_energy(calibration.energy.epistemic * energies.var(axis=0), calibration.energy.aleatoric * variances)
    np.testing.assert_allclose(calibration.apply(p).bald_energy, expected, atol=1e-12)


def test_covariances_stay_positive_definite_and_turn_with_the_molecule():
    calibration = fit_calibration(residuals(force_factor=1e-4))
    p = prediction()
    turn = Rotation.random(random_state=1).as_matrix() @ np.diag([1.0, 1.0, -1.0])
    turned = replace(
        p,
        forces_covariance_epistemic=turn @ p.forces_covariance_epistemic @ turn.T,
        forces_covariance_aleatoric=turn @ p.forces_covariance_aleatoric @ turn.T,
    )
    after = calibration.apply(p).forces_covariance
    np.testing.assert_allclose(calibration.apply(turned).forces_covariance, turn @ after @ turn.T, atol=1e-15)
    assert (np.linalg.eigvalsh(after) > 0).all()
    rotated = residuals(force_factor=1e-4)
    rotated = replace(rotated, forces=rotated.forces @ turn.T, forces_covariance=turn @ rotated.forces_covariance @ turn.T)
    assert fit_calibration(rotated).forces.scale == pytest.approx(calibration.forces.scale, rel=1e-12)


def test_scaled_residuals_are_those_of_the_calibrated_prediction():
    calibration = fit_calibration(residuals())
    p = prediction()
    raw = replace(residuals(structures=2, atoms=5), energy_variance=p.energy_variance, energy_aleatoric=p.energy_aleatoric)
    np.testing.assert_allclose(calibration.scaled(raw).energy_variance, calibration.apply(p).energy_variance)


@pytest.mark.parametrize("lacking", ["energy", "forces", "aleatoric"])
def test_a_posterior_that_gives_less(lacking):
    raw = residuals()
    changes = {
        "energy": {"energy_variance": None, "energy_aleatoric": None},
        "forces": {"forces_covariance": None},
        "aleatoric": {"energy_aleatoric": None},
    }[lacking]
    calibration = fit_calibration(replace(raw, **changes))
    assert (calibration.energy is None) == (lacking == "energy") and (calibration.forces is None) == (lacking == "forces")
    if lacking == "aleatoric":
        assert calibration.energy.epistemic == calibration.energy.aleatoric == pytest.approx(np.mean(raw.energy**2 / raw.energy_variance))
    assert from_dict(json.loads(json.dumps(to_dict(calibration)))) == calibration
    p = prediction()
    after = calibration.apply(p)
    if lacking == "energy":
        np.testing.assert_array_equal(after.energy_variance, p.energy_variance)
    assert (
        set(calibrated_levels(raw, calibration))
        == {"energy": {"forces", "ellipsoids"}, "forces": {"energy"}, "aleatoric": {"energy", "forces", "ellipsoids"}}[lacking]
    )


def test_signs_of_a_biased_model():
    """Energies have a sign, force components none: an interval of energies moves with a bias, that of components is symmetric."""
    raw = residuals(structures=200)
    biased = replace(raw, energy=np.abs(raw.energy) + 0.1, forces=np.abs(raw.forces))
    calibration = fit_calibration(biased)
    low, high = calibration.energy.interval(0.9)
    assert 0.0 < low < high  # reference − prediction is positive
    low, high = calibration.forces.interval(0.9)
    assert low == pytest.approx(-high, abs=1e-6)


def test_conformal_quantiles_count_structures_not_atoms():
    raw = residuals(structures=12, atoms=5)
    raw = replace(raw, forces=raw.forces * np.repeat(np.arange(1.0, 13.0), 5)[:, None])  # the errors of a structure belong together
    found = fit_calibration(raw)
    scores = np.sqrt(mahalanobis(raw.forces, raw.forces_covariance) / found.forces.scale)
    for q in found.forces.conformal:
        assert q.quantile == pytest.approx(conformal_quantile(scores, q.level, raw.frame).quantile, rel=1e-12)
    assert found.forces.conformal[1] != conformal_quantile(scores, 0.9)
    assert found.forces.conformal[0].n == found.energy.conformal[0].n == 12


def test_a_calibration_is_applied_once():
    calibration = fit_calibration(residuals())
    with pytest.raises(ValueError, match="calibrated already"):
        calibration.apply(calibration.apply(prediction()))


def test_nothing_to_calibrate():
    with pytest.raises(ValueError, match="no uncertainty"):
        fit_calibration(replace(residuals(), energy_variance=None, energy_aleatoric=None, forces_covariance=None))
    broken = residuals()
    with pytest.raises(ValueError, match="energy of 1 structures, the first number 3, is not finite"):
        fit_calibration(replace(broken, energy=np.where(np.arange(60) == 3, np.nan, broken.energy)))


def test_storage_is_exact_and_checks_what_it_reads():
    calibration = replace(fit_calibration(residuals(structures=12)), data_hash="ab", thresholds={"bald_energy": 0.3})
    state = json.loads(json.dumps(to_dict(calibration), allow_nan=False))  # 12 structures: no 95 % quantile, which is null
    assert from_dict(state) == calibration and math.isinf(calibration.energy.conformal[-1].quantile)
    for path, value, message in [
        (("forces", "scale"), -1.0, "factor"),
        (("energy", "aleatoric"), float("nan"), "factor"),
        (("frames",), 0, "empty"),
        (("energy", "levels"), None, "lacks a level map"),
        (("energy", "levels"), {"knots": [0.5, 1.0]}, "rise from 0 to 1"),
        (("thresholds",), {"bald_energy": -1.0}, "threshold"),
        (("forces", "conformal"), 3, "incomplete"),
    ]:
        changed = json.loads(json.dumps(state))
        target = changed
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value
        with pytest.raises(ValueError, match=message):
            from_dict(changed)
    for key in state.keys() - {"structures", "stress", "beside"}:
        with pytest.raises(ValueError, match="incomplete"):
            from_dict({name: value for name, value in state.items() if name != key})
    older = from_dict({name: value for name, value in state.items() if name != "structures"})
    assert older.structures == "" and replace(older, structures=state["structures"]) == from_dict(state)


def test_cross_fitting_judges_each_block_by_the_others():
    raw = residuals(structures=23)
    order = np.random.default_rng(0).permutation(len(raw.frame))  # atoms in any order
    shuffled = replace(
        raw, **{name: getattr(raw, name)[order] for name in ("forces", "forces_covariance", "frame", "numbers", "force_size")}
    )
    found = cross_fitted_levels(shuffled)
    block, others = np.arange(5, 10), np.r_[0:5, 10:23]  # the second of blocks of 5, 5, 5, 4 and 4
    calibration = fit_calibration(raw.subset(others))
    np.testing.assert_allclose(found["energy"][block], calibrated_levels(raw.subset(block), calibration)["energy"])
    scaled = mahalanobis(shuffled.forces, shuffled.forces_covariance) / calibration.forces.scale
    atom = np.flatnonzero(shuffled.frame == 7)[0]
    assert found["ellipsoids"][atom] == pytest.approx(calibration.forces.ellipsoids.observed(chi_square_pit(scaled[[atom]]))[0])
    with pytest.raises(ValueError, match="5 blocks"):
        cross_fitted_levels(residuals(structures=4))


def test_one_structure_has_no_interval():
    raw = residuals(structures=1)
    quality = reliability(nominal_levels(raw), raw.frame)
    assert np.isnan(quality["energy"].calibration_error.low) and quality["forces"].coverage[0.9].value <= 1.0


def test_one_broken_component_is_told():
    raw = residuals(structures=8)
    forces = raw.forces.copy()
    forces[11, 2] = np.nan
    with pytest.raises(ValueError, match="forces of 1 structures, the first number 2, is not finite"):
        fit_calibration(replace(raw, forces=forces))
