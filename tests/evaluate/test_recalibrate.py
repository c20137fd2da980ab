"""Checks of the calibration data, and where the thresholds come from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from race_calc.data.dataset import dataset_from_atoms
from race_calc.data.hashes import geometry_hashes
from race_calc.evaluate import calibrate as module
from race_calc.evaluate.calibrate import _one_decides, calibrate, check_held_back, doubts, not_too_low, thresholds_from
from race_calc.evaluate.predict import predict_dataset, residuals_of, scores_of
from race_calc.interfaces.stack_predictor import StackPredictor
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.uncertainty.scores import LEAST_GAP
from race_calc.uncertainty.thresholds import auto_thresholds


def frames(n=12, offset=0.0, cell=None):
    found = []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        atoms = molecule("CH3CH2OH")
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        if cell is not None:
            atoms.set_cell(cell)
            atoms.pbc = True
        atoms.calc = SinglePointCalculator(atoms, energy=-4180.0 + offset + rng.normal(), forces=rng.normal(size=(len(atoms), 3)))
        found.append(atoms)
    return found


@pytest.fixture(scope="module")
def predictor(tiny_model):
    return StackPredictor(load_stack(load_checkpoint(tiny_model), torch.float64, torch.device("cpu")))


def test_no_threshold_below_the_least_of_its_score(monkeypatch):
    near, energies = np.linspace(5e-3, 6e-3, 50), np.linspace(1e-4, 2e-4, 50)
    monkeypatch.setattr(module, "scores_of", lambda _: {"distance_gap_max": near, "energy_uncertainty_per_atom": energies})
    found = thresholds_from(None)
    assert found["distance_gap_max"] == LEAST_GAP > auto_thresholds({"distance_gap_max": near})["distance_gap_max"]
    assert found["energy_uncertainty_per_atom"] < 1e-3
    assert not_too_low({"distance_gap_max": 7e-3, "bald_energy": 0.1}) == {"distance_gap_max": LEAST_GAP, "bald_energy": 0.1}
    monkeypatch.setattr(module, "scores_of", lambda _: {"distance_gap_max": 10 * near})
    assert thresholds_from(None) == auto_thresholds({"distance_gap_max": 10 * near})


def test_thresholds_are_those_of_calibrated_scores(predictor):
    found, raw = calibrate(predictor, dataset_from_atoms(frames(24)))
    scores = scores_of(raw.calibrated(found))
    names = ["forces_uncertainty_rms_epistemic", "forces_uncertainty_max_epistemic", "energy_uncertainty_per_atom_epistemic"]
    assert found.thresholds == auto_thresholds(scores, together=names) == thresholds_from(raw.calibrated(found))
    assert found.thresholds[names[0]] > auto_thresholds(scores)[names[0]]  # three share the rate
    before = thresholds_from(raw)
    for name in ("forces_uncertainty_rms", "energy_uncertainty_per_atom"):
        assert found.thresholds[name] != pytest.approx(before[name], rel=0.01)
    scale = np.sqrt(found.forces.scale)
    assert found.thresholds["forces_uncertainty_max"] == pytest.approx(scale * before["forces_uncertainty_max"])


def test_members_are_counted_where_their_spread_is_all_there_is(predictor):
    dataset = dataset_from_atoms(frames(3))
    raw = predict_dataset(predictor, dataset)
    assert residuals_of(raw, dataset).spread_members == 2
    assert residuals_of(raw, dataset).forces_members is None and residuals_of(raw, dataset).energy_members is None
    bare = replace(raw, predictions=tuple(replace(p, energy_aleatoric=None, forces_covariance_aleatoric=None) for p in raw.predictions))
    found = residuals_of(bare, dataset)
    assert (found.energy_members, found.forces_members, found.energy_aleatoric) == (2, 2, None)


def test_hashes_of_places_see_every_atom_and_the_cell_but_not_the_labels():
    one = dataset_from_atoms(frames(1))
    last, relabelled = frames(1)[0], frames(1, offset=5.0)[0]
    last.positions[-1, 2] += 2e-4
    other = geometry_hashes(dataset_from_atoms([last, relabelled, *frames(1, cell=[9.0] * 3), *frames(1, cell=[9.0, 9.0, 9.1])]))
    assert other[1] == geometry_hashes(one)[0] and len({geometry_hashes(one)[0], *other}) == 4
    shaken = frames(1)[0]
    shaken.positions += 1e-9
    assert geometry_hashes(dataset_from_atoms([shaken])) == geometry_hashes(one)


def test_overlaps():
    dataset = dataset_from_atoms(frames())
    hashes = geometry_hashes(dataset)

    def known(train, validation):
        return {"train": " ".join(train), "validation": " ".join(validation)}

    assert check_held_back(known(["0" * 16], []), dataset) == []
    assert "2 of 12 structures are validation" in check_held_back(known([], hashes[3:5]), dataset)[0]
    with pytest.raises(ValueError, match="1 of 12 structures were trained on .the first is number 7"):
        check_held_back(known(hashes[7:8], []), dataset)
    with pytest.raises(ValueError, match="9 structures tell neither"):
        check_held_back(None, dataset.subset(range(9)))


def test_doubts(predictor):
    dataset = dataset_from_atoms(frames(20))
    found, raw = calibrate(predictor, dataset)
    residuals = residuals_of(raw, dataset)
    good = replace(residuals, energy=residuals.energy - residuals.energy.mean())
    assert doubts(found, good) == []
    assert "computed like those of the training" in doubts(found, replace(good, energy=good.energy + 100.0))[0]
    spread = good.energy.std()
    assert doubts(found, replace(good, energy=good.energy + 2.9 * spread)) == []
    assert "off by about" in doubts(found, replace(good, energy=good.energy - 3.1 * spread))[0]
    forces, energy = good.forces.copy(), good.energy.copy()
    forces[good.frame == 7] *= 30.0
    energy[3] = 50.0
    warnings = doubts(found, replace(good, forces=forces, energy=energy))
    assert len(warnings) == 2 and "structure 3 " in warnings[0] and "structure 7 " in warnings[1]


def test_energies_decide_in_units_of_their_own_sigma(predictor):
    """A large error that was expected decides nothing, a small one that was not does."""
    found, raw = calibrate(predictor, dataset_from_atoms(frames(20)))
    residuals = residuals_of(raw, dataset_from_atoms(frames(20)))
    sigma, aleatoric = np.ones(20), np.zeros(20)
    sigma[4], sigma[9] = 30.0, 0.1
    energy = np.where(np.arange(20) % 2, 1.0, -1.0) * sigma
    told = replace(residuals, energy=energy, energy_variance=sigma**2, energy_aleatoric=aleatoric)
    assert not [warning for warning in doubts(found, told) if "errors of energies" in warning]
    energy[9] = 1.0
    (warning,) = [w for w in doubts(found, replace(told, energy=energy)) if "errors of energies" in w]
    assert warning.startswith("structure 9 ")


def test_one_structure_that_makes_more_than_half_of_the_errors():
    frame = np.array([0, 0, 1, 2])
    assert _one_decides("forces", np.array([1.0, 1.0, 3.0, 1.0]), frame, by_size=False) == []  # half is not more than half
    assert (
        "structure 1 (counted from 0) alone makes 60 % of"
        in _one_decides("forces", np.array([1.0, 0.5, 3.0, 0.5]), frame, by_size=False)[0]
    )
    assert len(_one_decides("forces", np.array([1.0, 5.0]), np.array([0, 1]), by_size=False)) == 1
    assert _one_decides("forces", np.array([1.0]), np.array([0]), by_size=False) == []
