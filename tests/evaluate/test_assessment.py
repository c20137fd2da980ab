"""What evaluate tells about a calibrated model comes from the right numbers, before and after."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from race_calc.data.dataset import dataset_from_atoms
from race_calc.evaluate.assessment import RELATIVE_ERROR, assess, detections, score_terms
from race_calc.evaluate.calibrate import calibrate
from race_calc.evaluate.cross_fit import cross_fitted_levels
from race_calc.evaluate.errors import Quality
from race_calc.evaluate.reliability import calibrated_levels, inside, nominal_levels
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.posterior.stack import StackPosterior
from race_calc.report.calibration import floor_line
from race_calc.report.evaluation import floors
from race_calc.report.evaluation_figures import _bars, draw
from race_calc.report.evaluation_json import _reliability
from race_calc.uncertainty.metrics import calibration_floor
from race_calc.uncertainty.ranking import force_rank_ceiling, force_rank_correlation


def dataset(n, noise, seed):
    found = []
    for k in range(n):
        rng = np.random.default_rng((seed, k))
        atoms = molecule("CH3CH2OH")
        atoms.positions += rng.normal(scale=noise, size=atoms.positions.shape)
        atoms.calc = SinglePointCalculator(atoms, energy=-4180.0 + 2.0 * rng.normal(), forces=rng.normal(size=(len(atoms), 3)))
        found.append(atoms)
    return dataset_from_atoms(found)


@pytest.fixture(scope="module")
def predictor(tiny_model):
    return StackPredictor(load_stack(load_checkpoint(tiny_model), torch.float64, torch.device("cpu")))


@pytest.fixture(scope="module")
def calibration(predictor):
    return calibrate(predictor, dataset(15, 0.05, 1))[0]


@pytest.fixture(scope="module")
def known(predictor, calibration):
    return assess(predictor, calibration, dataset(8, 0.05, 2))


def test_before_and_after(known, calibration):
    np.testing.assert_allclose(known.residuals.forces_covariance, calibration.forces.scale * known.raw.forces_covariance)
    np.testing.assert_allclose(known.residuals.energy_variance, calibration.scaled(known.raw).energy_variance)
    for name, levels in nominal_levels(known.raw).items():
        np.testing.assert_array_equal(known.before[name], levels)
        np.testing.assert_array_equal(known.after[name], calibrated_levels(known.raw, calibration)[name])
        assert not np.allclose(known.before[name], known.after[name])
    assert known.evaluation.energy.sigma == pytest.approx(known.residuals.energy_std.mean())
    assert known.evaluation.forces.sigma == pytest.approx(known.residuals.forces_std.mean())
    assert known.atom_scores["atom: forces_uncertainty_rms"][5] == pytest.approx(
        np.sqrt(np.trace(known.residuals.forces_covariance[5]) / 3)
    )


def test_without_a_calibration(predictor):
    raw = assess(predictor, None, dataset(3, 0.05, 2))
    assert raw.after == {} and raw.residuals is raw.raw and raw.levels is raw.before


def test_the_score_uses_calibrated_errors_and_the_mean_detection(predictor, calibration, known):
    data = dataset(8, 0.05, 2)
    energies = [predictor.posterior.references.reference_energy(atoms.numbers) for atoms in data.structures]
    found = [detections(known, assess(predictor, calibration, dataset(5, noise, 3)), {}) for noise in (0.2, 0.3)]
    terms = score_terms(known, data, energies, found, "forces_uncertainty_rms")
    ce = known.after_quality["energy"].calibration_error.value
    assert terms["ce_energy"] == pytest.approx(math.sqrt(3 * ce), rel=0.02) and ce != known.before_quality["energy"].calibration_error.value
    aurocs = [one["forces_uncertainty_rms"].auroc for one in found]
    assert terms["auroc"] == pytest.approx(min(1.0, 2 * (1 - np.mean(aurocs))))
    spread = RELATIVE_ERROR * np.std(data.energy)  # one composition: the references are a constant
    assert terms["rmse_energy"] == pytest.approx(known.evaluation.energy.rmse / (known.evaluation.energy.rmse + spread))
    assert score_terms(known, data, energies, [], "forces_uncertainty_rms") is None


def test_floors_are_those_of_the_two_numbers_of_structures(known):
    text = floors({"known": known}, 15)
    assert f"known {calibration_floor(math.inf, 8):.4f}, after {calibration_floor(15, 8):.4f}" in text


def test_levels_inside_an_interval_and_an_ellipsoid():
    """The central interval of 90 % reaches from 5 to 95 %, an ellipsoid from 0 to 90 %."""
    levels = np.array([0.04, 0.06, 0.5, 0.89, 0.91, 0.94, 0.96])
    assert inside(levels, 0.9, "forces").tolist() == [False, True, True, True, True, True, False]
    assert inside(levels, 0.9, "ellipsoids").tolist() == [True, True, True, True, False, False, False]


def test_forces_are_counted_in_their_90_percent_ellipsoids(known):
    np.testing.assert_array_equal(known.covered, known.after["ellipsoids"] <= 0.9)
    np.testing.assert_array_equal(replace(known, after={"forces": known.after["forces"]}).covered, abs(known.after["forces"] - 0.5) <= 0.45)
    assert replace(known, after={"energy": known.after["energy"]}).covered is None


def test_ranks_are_those_of_the_raw_covariances(known):
    assert known.rank == (
        force_rank_correlation(known.raw.forces, known.raw.forces_covariance), force_rank_ceiling(known.raw.forces_covariance)
    )  # fmt: skip


def test_five_structures_can_be_cut_into_five_blocks(known):
    assert len(cross_fitted_levels(known.raw.subset(np.arange(5)))["energy"]) == 5
    with pytest.raises(ValueError, match="cannot be cut"):
        cross_fitted_levels(known.raw.subset(np.arange(4)))


def test_no_score_where_a_quantity_or_a_spread_is_lacking(known):
    name, data = "forces_uncertainty_rms", dataset(8, 0.05, 2)
    found = [detections(known, known, {})]
    assert score_terms(known, data, np.zeros(8), found, name) is not None
    for flat in (replace(data, energy=np.full(8, 3.0)), replace(data, forces=tuple(0.0 * f for f in data.forces))):
        assert score_terms(known, flat, np.zeros(8), found, name) is None  # labels without a spread
    for kept in ("energy", "forces"):
        partly = replace(known, after_quality={kept: known.after_quality[kept]})
        assert score_terms(partly, data, np.zeros(8), found, name) is None


def test_no_score_where_one_error_is_no_number(known):
    evaluation, nan = known.evaluation, Quality(np.nan, np.nan)
    for broken in (replace(evaluation, energy=nan), replace(evaluation, forces=nan)):
        other = replace(known, evaluation=broken)
        assert score_terms(other, dataset(8, 0.05, 2), np.zeros(8), [detections(known, known, {})], "forces_uncertainty_rms") is None


def test_floors_in_the_json_and_after_calibrate_count_structures(known):
    """Eight structures of nine atoms; after calibrate, each fifth part is judged with the other four."""
    found = _reliability(known, 15)
    assert found["calibration_error_floor_before"] == pytest.approx(1 / 48)
    assert found["calibration_error_floor_after"] == pytest.approx((1 / 15 + 1 / 8) / 6)
    assert f"{1 / 120:.4f} before, {(1 / 16 + 1 / 20) / 6:.4f} after" in floor_line(20)


def test_bad_frames_are_those_of_a_large_rmse(known):
    """Five times that of the known set, of each structure by itself; a single wrong component is enough, its mean size is small."""
    limit, atoms = 5 * known.evaluation.forces.rmse, 9
    forces = np.zeros((8, atoms, 3))
    forces[0, 0, 0] = 1.01 * limit * np.sqrt(3 * atoms)  # mean |ΔF|: a fifth of the limit
    forces[1] = 0.99 * limit
    forces[2] = -1.01 * limit
    forces[3, 0, 0] = 0.99 * limit * np.sqrt(3 * atoms)
    other = replace(known, raw=replace(known.raw, forces=forces.reshape(-1, 3)))
    name = "forces_uncertainty_rms"
    scores = known.evaluation.scores[name]
    found = detections(known, other, {name: float(np.mean([scores[0], scores[2]]))})[name]
    assert found.bad == 2 and found.missed == 1  # of the two, one score is below their mean
    assert found.alarms_known == np.mean(scores > np.mean([scores[0], scores[2]]))


def test_intervals_of_the_figure(known, calibration):
    (before_title, before), (after_title, after) = _bars(known, calibration)
    assert (before_title, after_title) == ("before calibration", "after")
    np.testing.assert_allclose(before.high, 1.6449 * 1e3 * known.raw.energy_std, rtol=1e-4)
    np.testing.assert_allclose(before.low, -before.high)
    low, high = calibration.energy.interval(0.9)
    np.testing.assert_allclose(after.low, low * 1e3 * known.residuals.energy_std)
    np.testing.assert_allclose(after.high, high * 1e3 * known.residuals.energy_std)
    assert (before.low < before.high).all() and (after.low < after.high).all()
    np.testing.assert_array_equal(before.difference, 1e3 * known.raw.energy)


def test_the_curves_get_before_and_after(known, calibration, monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr("race_calc.report.evaluation_figures.calibration_figure", lambda panels: seen.update(panels) or "figure")
    monkeypatch.setattr("race_calc.report.evaluation_figures.save_figure", lambda figure, stem: [stem])
    assert len(draw(tmp_path, {"known": known}, calibration)) == 3
    before, after = seen["energies"]["known"]
    np.testing.assert_array_equal(before, known.before["energy"])
    np.testing.assert_array_equal(after, known.after["energy"])


def test_broken_predictions_are_alarms_not_errors(predictor, calibration, known, monkeypatch, tmp_path):
    full = StackPosterior.predict

    def broken(self, graph):
        p = full(self, graph)
        nan = np.where(np.arange(len(p.batch)) % 9 == 0, np.nan, 1.0)
        return replace(
            p,
            energy=p.energy * np.nan,
            forces=p.forces * nan[:, None],
            forces_covariance_epistemic=p.forces_covariance_epistemic * nan[:, None, None],
        )

    monkeypatch.setattr(StackPosterior, "predict", broken)
    other = assess(predictor, calibration, dataset(4, 0.05, 3))
    found = detections(known, other, {"forces_uncertainty_rms": 1e9})["forces_uncertainty_rms"]
    assert (found.bad, found.missed, found.alarms_other, found.auroc) == (4, 0, 1.0, 1.0)
    assert score_terms(other, dataset(4, 0.05, 3), np.zeros(4), [{"forces_uncertainty_rms": found}], "forces_uncertainty_rms") is None
    assert len(draw(tmp_path, {"broken": other}, calibration)) == 6


def test_calibrating_a_broken_model_names_the_structure(predictor, monkeypatch):
    full = StackPosterior.predict
    monkeypatch.setattr(
        StackPosterior, "predict", lambda self, graph: replace(full(self, graph), energy=np.full(graph.n_structures, np.nan))
    )
    with pytest.raises(ValueError, match="the energy of 12 structures, the first number 0, is not finite"):
        calibrate(predictor, dataset(12, 0.05, 1))


def test_the_model_folder_is_not_touched_by_assessing(tiny_model, tmp_path):
    copy = shutil.copytree(tiny_model, tmp_path / "model")
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    assess(StackPredictor(load_stack(load_checkpoint(copy), torch.float64, torch.device("cpu"))), None, dataset(2, 0.05, 2))
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
