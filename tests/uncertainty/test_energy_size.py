"""Sizes of energy variances, and which way to recalibrate is chosen."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones

from race_calc.interfaces.committee import Committee
from race_calc.uncertainty.aggregate import MemberOutputs, aggregate
from race_calc.uncertainty.bald import bald_energy
from race_calc.uncertainty.calibration import Calibration, fit_calibration
from race_calc.uncertainty.calibration_energy import PARTS, SIZE, EnergyCalibration
from race_calc.uncertainty.energy_size import EXPONENTS, EnergySize, EnergySpread, Source, fit_energy_size, share_of_energies
from race_calc.uncertainty.held_back import FOLDS, held_back, prefers, told
from race_calc.uncertainty.level_map import FLAT
from race_calc.uncertainty.metrics import gaussian_nll
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.shape_size import mean_variance
from race_calc.uncertainty.storage import from_dict, to_dict

FORM = EnergySize((Source("energies", 0.7, 1.4, 1e-9, 0.2), Source("forces", 0.3, 1.5, 1e-9, 0.8)))


def spread(structures=300, seed=0, sizes=(2, 40)):
    rng = np.random.default_rng(seed)
    frame = np.repeat(np.arange(structures), rng.integers(*sizes, size=structures))
    return EnergySpread(
        np.exp(rng.normal(size=structures)), (np.exp(rng.normal(size=len(frame))), np.exp(rng.normal(size=len(frame)))), frame
    )


def test_the_formula():
    of = spread(20)
    for k, value in enumerate(FORM.variance(of)):
        own = of.frame == k
        n, (e, nearby) = own.sum(), (values[own] for values in of.forces)
        expected = 0.2 * 0.7 * n * (of.energies[k] / n) ** 1.4 + 0.8 * 0.3 * np.sum(e * nearby**0.5)
        assert value == pytest.approx(expected, rel=1e-6)
    alone = replace(of, forces=None)
    np.testing.assert_allclose(FORM.variance(alone), FORM.sources[0].variance(alone))


def test_the_scale_is_that_of_the_errors():
    of = spread(4000)
    difference = np.sqrt(FORM.variance(of)) * np.random.default_rng(1).normal(size=4000)
    found = fit_energy_size(difference, of)
    assert np.mean(difference**2 / found.variance(of)) == pytest.approx(1.0)
    assert {source.name: source.exponent for source in found.sources} == EXPONENTS
    by_source = [np.mean(difference**2 / source.variance(of)) for source in found.sources]
    assert by_source[0] == pytest.approx(by_source[1])  # both count alike
    with pytest.raises(ValueError, match="is no scale"):
        fit_energy_size(np.zeros(4000), of)
    with pytest.raises(ValueError, match="do not differ in their energies"):
        fit_energy_size(difference, replace(of, energies=np.zeros(4000)))


@pytest.mark.parametrize("members, share", [(None, 0.5), (30, 0.5), (10, 0.5), (5, 16 / 97), (3, 4 / 85), (2, 1 / 82), (1, 1 / 82)])
def test_the_share_of_energies(members, share):
    assert share_of_energies(members) == pytest.approx(share)
    form = fit_energy_size(np.ones(20), spread(20), members)
    assert [source.weight for source in form.sources] == pytest.approx([share, 1 - share])


def test_few_members_tell_little_by_their_energies():
    """Errors of the size of both spreads; two members' variance scatters by a chi-square, and tells new structures worse."""

    def told_by_two(seed):
        rng = np.random.default_rng(seed)
        frame, true = np.repeat(np.arange(500), 8), np.exp(rng.normal(size=500))
        e = true[frame]
        of = EnergySpread(8 * true * rng.chisquare(1, 500), (e, e), frame)
        return np.sqrt(8 * true**1.45) * rng.normal(size=500), of

    def nll(members):
        form, (difference, of) = fit_energy_size(*told_by_two(0), members), told_by_two(1)
        return gaussian_nll(difference, form.variance(of))

    assert nll(2) < nll(None) - 0.1


def test_without_forces_the_energies_have_their_whole_scale():
    of = spread(50)
    alone, both = FORM.of_equal_weight(False), FORM.of_equal_weight(True)
    np.testing.assert_allclose(FORM.variance(replace(of, forces=None)), FORM.sources[0].variance(of))
    assert [source.scale for source in alone] == [0.7]
    assert [source.scale for source in both] == pytest.approx([2 * 0.2 * 0.7, 2 * 0.8 * 0.3])


def test_files_from_before_there_were_weights():
    stored = json.loads(json.dumps(to_dict(calibration())))
    assert from_dict(stored).energy.form == FORM
    for source in stored["energy"]["form"]["sources"]:
        del source["weight"]
    assert [source.weight for source in from_dict(stored).energy.form.sources] == [0.5, 0.5]


def test_a_hot_molecule_counts_the_same_beside_a_large_cold_one():
    def of_forces(e):
        return FORM.sources[1].variance(EnergySpread(np.zeros(1), (e, e), np.zeros(len(e), dtype=int)))[0]

    hot, cold = np.full(9, 0.3), np.full(990, 1e-4)
    assert of_forces(np.concatenate([hot, cold])) == pytest.approx(of_forces(hot) + of_forces(cold))


def test_forces_that_vanish_make_no_energy_certain():
    of = spread(300)
    form = fit_energy_size(np.random.default_rng(0).normal(size=300), of)
    crystal = EnergySpread(np.array([np.median(of.energies)]), (np.zeros(20), np.zeros(20)), np.zeros(20, dtype=int))
    typical = replace(crystal, forces=(np.ones(20), np.ones(20)))
    assert form.variance(crystal) > 0.2 * form.variance(typical)


def residuals(follows, structures=300, seed=0, form=FORM) -> Residuals:
    """Errors that follow the spread, or are the same everywhere; 5 atoms a structure."""
    rng = np.random.default_rng(seed)
    of = spread(structures, seed, (5, 6))
    variance = form.variance(of) if follows else np.ones(structures)
    noise = np.full(structures, 0.01 if follows else 1.0)
    return Residuals(
        energy=np.sqrt(variance) * rng.normal(size=structures),
        energy_variance=of.energies + noise,
        energy_aleatoric=noise,
        forces=np.ones((len(of.frame), 3)),
        forces_covariance=of.forces[0][:, None, None] * np.eye(3),
        forces_nearby=of.forces[1],
        frame=of.frame,
        numbers=np.ones(len(of.frame), dtype=int),
        force_size=np.ones(len(of.frame)),
    )


@pytest.mark.parametrize("follows", [True, False])
def test_what_the_errors_follow_is_chosen(follows):
    found = fit_calibration(residuals(follows)).energy
    assert found.way == (SIZE if follows else PARTS)
    assert min(found.held_back, key=lambda one: one.nll).name == found.way and len(found.held_back) == 2


def test_the_members_of_the_residuals_give_the_weights():
    raw = replace(residuals(True), spread_members=5)
    for known in (raw, raw.subset(np.arange(200))):
        assert [source.weight for source in fit_calibration(known).energy.form.sources] == pytest.approx([16 / 97, 81 / 97])
    assert raw.energy_members is None and replace(raw, energy_aleatoric=None).energy_members == 5


@pytest.mark.parametrize("lacks", [{"forces_covariance": None}, {"forces_nearby": None}, {"forces_optional": True}])
def test_without_a_spread_of_forces_that_of_the_energies_serves(lacks):
    raw = residuals(True, form=EnergySize(FORM.sources[:1]))
    found = fit_calibration(replace(raw, **lacks)).energy
    assert [source.name for source in found.form.sources] == ["energies"]


def prediction(members=6, seed=0):
    rng = np.random.default_rng(seed)
    noise = np.exp(rng.normal(size=(members, 2)))
    outputs = MemberOutputs(
        energy=rng.normal(size=(members, 2)), forces=rng.normal(size=(members, 5, 3)), energy_var=noise, batch=np.array([0, 0, 0, 1, 1])
    )
    return replace(aggregate(outputs), forces_nearby=np.exp(rng.normal(size=5))), noise


def calibration(form=FORM):
    return Calibration("", 50, EnergyCalibration(2.0, 0.5, FLAT, (), form), None)


def test_a_prediction_is_scaled():
    raw, noise = prediction()
    after = calibration().apply(raw)
    e = np.trace(raw.forces_covariance_epistemic, axis1=1, axis2=2) / 3
    expected = FORM.variance(EnergySpread(raw.energy_epistemic, (e, raw.forces_nearby), raw.batch))
    np.testing.assert_allclose(after.energy_variance, expected)
    np.testing.assert_allclose(after.energy_epistemic + after.energy_aleatoric, expected)
    np.testing.assert_allclose(after.energy_epistemic / after.energy_aleatoric, raw.energy_epistemic / raw.energy_aleatoric)
    ratio = expected / raw.energy_variance
    np.testing.assert_allclose(after.bald_energy, raw.bald_energy)
    np.testing.assert_allclose(bald_energy(ratio * raw.energy_epistemic, ratio * noise), after.bald_energy)


def test_a_prediction_that_lacks_something():
    raw, _ = prediction()
    without = calibration().apply(replace(raw, forces_covariance_epistemic=None))
    alone = FORM.sources[0].variance(EnergySpread(raw.energy_epistemic, None, raw.batch))
    np.testing.assert_allclose(without.energy_variance, alone)
    one = replace(raw, n_members=1, energy_epistemic=np.zeros(2), bald_energy=None, bald_forces=None)
    np.testing.assert_allclose(calibration().apply(one).energy_aleatoric, 0.5 * raw.energy_aleatoric)
    unsplit = replace(raw, energy_epistemic=None, energy_aleatoric=None, energy_unsplit=raw.energy_epistemic, bald_energy=None)
    np.testing.assert_allclose(calibration().apply(unsplit).energy_unsplit, calibration().apply(unsplit).energy_variance)


def test_most_structures_may_be_perfect_crystals():
    """Whose forces have a spread of nothing but rounding."""
    raw = residuals(True, 40)
    crystal = raw.frame % 5 > 0
    e = np.where(crystal, 1e-32, mean_variance(raw.forces_covariance))
    raw = replace(raw, forces_covariance=e[:, None, None] * np.eye(3), forces_nearby=np.where(crystal, 1e-32, raw.forces_nearby))
    found = fit_calibration(raw).energy
    assert np.sqrt(found.variance(raw)[0]).max() < 100 * np.abs(raw.energy).max()


def test_members_that_agree_exactly(recwarn):
    """An isolated atom, of which every member says the same."""
    committee = Committee([LennardJones(sigma=s, rc=4.0) for s in (0.9, 0.91, 0.93)], calibration=calibration())
    atom = Atoms("Ar", cell=20 * np.eye(3), pbc=True)
    value = committee.get_property("energy_uncertainty", atom)
    assert 0 < value < 1e-3 and not [w for w in recwarn.list if issubclass(w.category, RuntimeWarning)]


def test_storage():
    found = replace(fit_calibration(residuals(True)), data_hash="ab")
    state = json.loads(json.dumps(to_dict(found), allow_nan=False))
    assert from_dict(state) == found and found.energy.form is not None
    first, second = state["energy"]["form"]["sources"]
    wrong = [[first | change] for change in ({"name": "stress"}, {"exponent": -1.0}, {"scale": 0.0}, {"weight": 0.0}, {"weight": 1.5})]
    for sources in (*wrong, [second], [{}], 3):
        with pytest.raises(ValueError, match="calibrate the model again"):
            from_dict(state | {"energy": state["energy"] | {"form": {"sources": sources}}})


def test_in_doubt_not_the_plain_one():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=100)
    assert prefers({"plain": noise, "other": noise[::-1] + 0.05}, "plain", "other")
    assert not prefers({"plain": noise, "other": noise + rng.normal(size=100) * 0.1 + 0.1}, "plain", "other")
    assert prefers({"plain": noise, "other": noise + 0.04}, "plain", "other")  # certain, and does not matter
    assert prefers({"plain": noise, "other": noise + 0.1}, "plain", "other", 3)
    assert not prefers({"plain": noise, "other": noise + np.where(np.arange(100) < 3, 50.0, -0.1)}, "plain", "other")  # no doubt excuses it
    outlier = np.where(np.arange(100) == 3, 50.0, -0.1)
    assert prefers({"plain": noise, "other": noise + outlier}, "plain", "other")  # worse for one, better for most
    assert prefers({"plain": noise + np.inf, "other": noise}, "plain", "other")
    assert not prefers({"plain": noise, "other": noise + np.inf}, "plain", "other")
    assert not prefers({}, "plain", "other") and not prefers({"plain": noise}, "plain", "other")


def test_blocks_are_held_back():
    raw, seen = residuals(True, 23), []

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
