"""Sizes of energy variances, and which way to recalibrate is chosen."""

import json
from dataclasses import replace

import numpy as np
import pytest

from race_calc.uncertainty.aggregate import MemberOutputs, aggregate
from race_calc.uncertainty.bald import bald_energy
from race_calc.uncertainty.calibration import Calibration, fit_calibration
from race_calc.uncertainty.calibration_energy import PARTS, SIZE_OF, EnergyCalibration
from race_calc.uncertainty.energy_size import EXPONENTS, EnergySize, EnergySpread, fit_energy_size
from race_calc.uncertainty.held_back import FOLDS, chosen, held_back, told
from race_calc.uncertainty.level_map import FLAT
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.storage import from_dict, to_dict


def residuals(source, structures=300, seed=0, aleatoric=True) -> Residuals:
    """Errors that follow one of the spreads, or are the same everywhere for None; 5 atoms a structure."""
    rng = np.random.default_rng(seed)
    epistemic, size = np.exp(rng.normal(size=structures)), np.exp(rng.normal(size=structures))
    variance = {"energies": epistemic, "forces": size, None: np.ones(structures)}[source]
    variance = (
        variance
        if source is None
        else EnergySize(2.0, source, EXPONENTS[source]).variance(EnergySpread(variance, variance * 5, np.full(structures, 5)))
    )
    noise = 0.01 * np.ones(structures) if source is not None else np.ones(structures)
    return Residuals(
        energy=np.sqrt(variance) * rng.normal(size=structures),
        energy_variance=epistemic + noise if aleatoric else epistemic,
        energy_aleatoric=noise if aleatoric else None,
        forces=np.ones((5 * structures, 3)),
        forces_covariance=np.repeat(size, 5)[:, None, None] * np.eye(3),
        frame=np.repeat(np.arange(structures), 5),
        numbers=np.ones(5 * structures, dtype=int),
        force_size=np.ones(5 * structures),
    )


@pytest.mark.parametrize("source", EXPONENTS)
def test_the_formula_and_its_scale(source):
    rng = np.random.default_rng(0)
    atoms = rng.integers(2, 40, size=4000)
    spread = EnergySpread(np.exp(rng.normal(size=4000)), np.exp(rng.normal(size=4000)), atoms)
    form = EnergySize(3.0, source, EXPONENTS[source])
    x = {"energies": spread.energies, "forces": spread.forces}[source]
    np.testing.assert_allclose(form.variance(spread), 3.0 * atoms * (x / atoms) ** form.exponent, rtol=1e-9)
    found = fit_energy_size(np.sqrt(form.variance(spread)) * rng.normal(size=4000), spread, source)
    assert found.scale == pytest.approx(3.0, rel=0.1) and (found.source, found.exponent) == (source, form.exponent)
    with pytest.raises(ValueError, match="is no scale"):
        fit_energy_size(np.zeros(4000), spread, source)


def test_two_molecules_have_twice_the_variance_of_one():
    form = EnergySize(3.0, "forces", 1.5)
    one, two = (EnergySpread(None, np.array([k * 0.3]), np.array([k * 9])) for k in (1, 2))
    assert form.variance(two) == pytest.approx(2 * form.variance(one))


@pytest.mark.parametrize("source", [None, *EXPONENTS])
def test_what_the_errors_follow_is_chosen(source):
    found = fit_calibration(residuals(source)).energy
    assert found.way == (PARTS if source is None else SIZE_OF[source])
    assert {one.name for one in found.held_back} == {PARTS, *SIZE_OF.values()}
    assert min(found.held_back, key=lambda one: one.nll).name == found.way


def test_without_force_covariances_there_is_one_source_less():
    raw = residuals("forces")
    found = fit_calibration(replace(raw, forces_covariance=None)).energy
    assert SIZE_OF["forces"] not in {one.name for one in found.held_back}


def prediction(members=6, seed=0):
    rng = np.random.default_rng(seed)
    noise = np.exp(rng.normal(size=(members, 2)))
    outputs = MemberOutputs(
        energy=rng.normal(size=(members, 2)), forces=rng.normal(size=(members, 5, 3)), energy_var=noise, batch=np.array([0, 0, 0, 1, 1])
    )
    return aggregate(outputs), noise


@pytest.mark.parametrize("source", EXPONENTS)
def test_a_prediction_is_scaled(source):
    raw, noise = prediction()
    form = EnergySize(0.7, source, 1.3)
    after = Calibration("", 50, EnergyCalibration(2.0, 1.0, FLAT, (), form), None).apply(raw)
    size = np.array([np.trace(raw.forces_covariance_epistemic[raw.batch == k].sum(axis=0)) / 3 for k in (0, 1)])
    expected = form.variance(EnergySpread(raw.energy_epistemic, size, np.array([3, 2])))
    np.testing.assert_allclose(after.energy_variance, expected)
    np.testing.assert_allclose(after.energy_epistemic + after.energy_aleatoric, expected)
    np.testing.assert_allclose(after.energy_epistemic / after.energy_aleatoric, raw.energy_epistemic / raw.energy_aleatoric)
    ratio = expected / raw.energy_variance
    np.testing.assert_allclose(after.bald_energy, raw.bald_energy)
    np.testing.assert_allclose(bald_energy(ratio * raw.energy_epistemic, ratio * noise), after.bald_energy)


def test_a_prediction_without_the_spread_gets_the_factors():
    raw, _ = prediction()
    lacks = replace(raw, forces_covariance_epistemic=None)
    after = Calibration("", 50, EnergyCalibration(2.0, 0.5, FLAT, (), EnergySize(0.7, "forces", 1.3)), None).apply(lacks)
    np.testing.assert_allclose(after.energy_variance, 2.0 * raw.energy_epistemic + 0.5 * raw.energy_aleatoric)


def test_storage():
    calibration = replace(fit_calibration(residuals("forces")), data_hash="ab")
    state = json.loads(json.dumps(to_dict(calibration), allow_nan=False))
    assert from_dict(state) == calibration and calibration.energy.form is not None
    for name, value in (("source", "stress"), ("exponent", -1.0), ("scale", 0.0)):
        spoilt = state["energy"] | {"form": state["energy"]["form"] | {name: value}}
        with pytest.raises(ValueError, match="calibrate the model again"):
            from_dict(state | {"energy": spoilt})


def test_in_doubt_not_the_plain_one():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=100)
    assert chosen({"plain": noise, "other": noise[::-1] + 0.05}, "plain") == "other"
    assert chosen({"plain": noise, "other": noise + rng.normal(size=100) * 0.1 + 0.05}, "plain") == "plain"
    assert chosen({"plain": noise, "other": noise - 1, "best": noise - 2}, "plain") == "best"
    assert chosen({"plain": noise + np.inf, "other": noise}, "plain") == "other"
    assert chosen({"plain": noise, "other": noise + np.inf}, "plain") == "plain"
    assert chosen({}, "plain") == chosen({"plain": noise}, "plain") == "plain"


def test_blocks_are_held_back():
    raw, seen = residuals("forces", 23), []

    def fit(known):
        def nll(new):
            seen.append((len(known), len(new)))
            return new.energy**2

        return nll

    def fails(known):
        raise ValueError("no scale")

    found = held_back(raw, {"one": fit, "other": fails})
    np.testing.assert_array_equal(found["one"], raw.energy**2)
    assert list(found) == ["one"] and told(found) == ()
    assert len(seen) == FOLDS and all(sum(pair) == 23 for pair in seen) and sum(new for _, new in seen) == 23
    assert held_back(raw.subset(np.arange(FOLDS - 1)), {"one": fit}) == {}
