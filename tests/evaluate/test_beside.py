"""What is predicted beside energies and forces, the gap between states and scalars: calibrated and judged."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from race_calc.data.dataset import Dataset
from race_calc.data.surfaces import labels_beside
from race_calc.evaluate.beside import calibrated_beside, errors_beside, joined
from race_calc.evaluate.predict import Predicted
from race_calc.uncertainty.beside import beside
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.prediction import Extra, Prediction
from race_calc.uncertainty.storage import from_dict, to_dict

FRAMES, ATOMS = 400, 3


def made(factors: tuple[float, float] = (4.0, 0.25), members: int = 4, aleatoric: bool = True):
    """Predictions whose variances are too small or large by known factors, and the labels."""
    rng = np.random.default_rng(0)
    structures = tuple(Atoms("H2O", rng.normal(size=(3, 3))) for _ in range(FRAMES))
    epistemic, noise = (rng.uniform(0.5, 5.0, FRAMES) for _ in range(2))
    noise = noise if aleatoric else np.zeros(FRAMES)
    std = np.sqrt(factors[0] * epistemic + factors[1] * noise)
    value = rng.uniform(5.0, 9.0, FRAMES)
    labels = {name: value + std * rng.standard_normal(FRAMES) for name in ("gap", "coupling")}
    sigma = np.sqrt(epistemic + noise)
    scalar = Extra(value, epistemic, True)
    prediction = Prediction(
        energy=np.zeros(FRAMES),
        forces=np.zeros((FRAMES * ATOMS, 3)),
        batch=np.repeat(np.arange(FRAMES), ATOMS),
        energy_epistemic=np.ones(FRAMES),
        n_members=members,
        gap=value,
        gap_epistemic=epistemic,
        gap_aleatoric=noise if aleatoric else None,
        extra={"coupling": scalar, "coupling_uncertainty": Extra(sigma, 0 * sigma, True), "charge": Extra(value, epistemic)},
    )
    dataset = Dataset(structures, np.zeros(FRAMES), tuple(np.zeros((ATOMS, 3)) for _ in structures), (None,) * FRAMES)
    return Predicted((prediction,), (structures,)), dataset, labels


def test_factors_of_both_parts_are_found():
    predicted, dataset, labels = made()
    fitted = calibrated_beside(predicted, dataset, labels)
    assert set(fitted) == {"gap", "coupling"}
    for part in fitted.values():
        assert part.epistemic == pytest.approx(4.0, rel=0.3) and part.aleatoric == pytest.approx(0.25, abs=0.5)
    calibration = Calibration("", FRAMES, None, None, beside=fitted)
    after = predicted.calibrated(calibration)
    errors, before = errors_beside(after, labels), errors_beside(predicted, labels)
    for name in fitted:
        assert abs(errors[name].coverage[0.9] - 0.9) < 0.04 < abs(before[name].coverage[0.9] - 0.9)
        assert errors[name].mae == before[name].mae and errors[name].nll < before[name].nll
    whole, one = after.predictions[0], beside(after.predictions[0])["gap"]
    assert whole.value("gap_uncertainty") == pytest.approx(np.sqrt(one.variance))
    assert (whole.extra["coupling_uncertainty"].mean ** 2 >= whole.extra["coupling"].epistemic).all()
    assert "charge" not in beside(whole) and whole.extra["charge"] is predicted.predictions[0].extra["charge"]


@pytest.mark.parametrize("aleatoric", [True, False])
def test_stored_and_read(aleatoric):
    predicted, dataset, labels = made(aleatoric=aleatoric)
    calibration = Calibration("", FRAMES, None, None, beside=calibrated_beside(predicted, dataset, labels))
    stored = to_dict(replace(calibration, energy=calibration.beside["gap"]))
    again = from_dict(stored)
    assert again.beside == calibration.beside
    del stored["beside"]  # as versions before 4 have it
    assert from_dict(stored).beside == {}


def test_a_spread_that_is_all_of_the_variance():
    predicted, dataset, labels = made((4.0, 0.0), aleatoric=False)
    fitted = calibrated_beside(predicted, dataset, labels)
    after = predicted.calibrated(Calibration("", FRAMES, None, None, beside=fitted))
    assert errors_beside(after, labels)["gap"].coverage[0.9] == pytest.approx(0.9, abs=0.06)
    assert joined(after)["gap"].aleatoric is None and joined(after)["coupling"].aleatoric is None


def test_few_labels_and_none():
    predicted, dataset, labels = made()
    labels["gap"][9:] = np.nan
    del labels["coupling"]
    assert calibrated_beside(predicted, dataset, labels) == {}
    assert errors_beside(predicted, labels)["gap"].count == 9
    assert errors_beside(predicted, {"gap": np.full(FRAMES, np.nan)}) == {"gap": None}


def test_what_gives_no_scale_is_told_and_left_out():
    predicted, dataset, labels = made()
    labels["coupling"] = predicted.predictions[0].extra["coupling"].mean  # no error at all
    with pytest.warns(UserWarning, match="coupling is not calibrated, the rest is: "):
        assert set(calibrated_beside(predicted, dataset, labels)) == {"gap"}


@pytest.mark.parametrize("value", ["n/a", [], None, [1.0, 2.0], float("inf")])
def test_labels_that_are_no_numbers(value):
    atoms = Atoms("H", info={"energy_A": 0.0, "energy_B": 2.0, "x": value})
    dataset = Dataset((atoms,), np.zeros(1), (np.zeros((1, 3)),), (None,))
    with pytest.raises(ValueError, match="frame 0 of the data set: x is .*, one finite number is needed"):
        labels_beside(dataset, ("A", "B"), 0, ("x",))


def test_the_gap_is_that_to_the_nearest_state():
    structures = (Atoms("H", info={"energy_A": 0.0, "energy_B": 2.0, "energy_C": 3.0, "x": 7.0}), Atoms("H", info={"energy_A": 1.0}))
    nothing = Dataset(structures, np.zeros(2), (np.zeros((1, 3)),) * 2, (None, None))
    told = labels_beside(nothing, ("A", "B", "C"), 1, ("x",))
    assert told["gap"][0] == 1.0 and np.isnan(told["gap"][1])
    assert told["x"][0] == 7.0 and np.isnan(told["x"][1])
