"""LLPR of states and properties: a Gaussian over the last layers of each."""

from dataclasses import replace

import numpy as np
import pytest
import test_properties
import test_states
import torch
from resumed import CPU

from race_calc import PropertyModel, RACECalculator
from race_calc.data.graph import from_atoms
from race_calc.model.parameters import expanded, n_members
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.last_layer import columns_of, last_layer_weights, last_layers, rows_of, with_last_layers
from race_calc.posterior.load import load_stack
from race_calc.posterior.surfaces import with_surfaces
from race_calc.train.finish import finish
from race_calc.train.fit import Request, fit_posterior
from race_calc.train.loop import train


@pytest.fixture(scope="module")
def properties(tmp_path_factory):
    """Folder, configuration and data of a short run of one member; some labels are missing."""
    folder = tmp_path_factory.mktemp("properties")
    frames = [test_properties.labelled(seed) for seed in range(48)]
    for i, atoms in enumerate(frames[::5]):
        del atoms.info[list(test_properties.TARGETS)[i % 4]]
    config, prepared = test_properties.run(folder, frames, posterior="mve", members=1, training__dtype="float64")
    finish(config, prepared, train(config, prepared, folder / "out", CPU, False), folder / "out", CPU)
    return folder, config, prepared, frames


def test_features_are_derivatives_of_the_value(properties):
    folder, config, prepared, _ = properties
    one = load_checkpoint(folder / "out").parameters
    example = prepared.train[1]
    rows = rows_of(prepared.models, one, example, CPU)
    step = 1e-5
    for k, (model, found) in enumerate(zip(prepared.models, rows)):
        columns = columns_of(model)
        mean = last_layer_weights(one, columns, k)
        rng = np.random.default_rng(k)
        for i in rng.choice(len(mean), 4, replace=False):
            shifted = torch.stack([mean, mean])
            shifted[0, i] += step
            shifted[1, i] -= step
            up, down = (rows_of(prepared.models, with_last_layers(one, row[None], columns, k), example, CPU)[k].error for row in shifted)
            assert float(found.features[i]) == pytest.approx((down - up) / (2 * step), rel=1e-5, abs=1e-7)


def test_weights_go_where_they_came_from(properties):
    folder, _, prepared, _ = properties
    one = load_checkpoint(folder / "out").parameters
    for k, model in enumerate(prepared.models):
        columns = columns_of(model)
        again = with_last_layers(one, last_layer_weights(one, columns, k)[None], columns, k)
        assert list(again) == list(one)
        torch.testing.assert_close(again, one)
        assert len(last_layer_weights(one, columns, k)) == 64 * len(columns) * len(last_layers(one, k))


def test_as_many_draws_as_weights_give_the_closed_form(properties, tmp_path):
    folder, config, prepared, frames = properties
    size = 2 * 64 * 2
    made = fit_posterior(load_checkpoint(folder / "out"), Request("llpr", members=2 * size), folder, tmp_path, CPU)
    assert made.last_layer is None and n_members(made.parameters) == 2 * size
    found = PropertyModel(tmp_path, device="cpu").predict(frames)
    one = load_checkpoint(folder / "out").parameters
    plain = PropertyModel(folder / "out", device="cpu").predict(frames)
    for k, (name, kind) in enumerate(config.model.targets.items()):
        columns, unit = columns_of(prepared.models[k]), prepared.surfaces[k].unit
        draws = torch.cat([made.parameters[last][:, :, columns].transpose(1, 2).flatten(1) for last in last_layers(one, k)], dim=1)
        deviations = (draws - draws.mean(0)).double()
        covariance = deviations.T @ deviations / len(draws)
        rows = [rows_of(prepared.models, one, example, CPU)[k] for example in prepared.train[:10]]
        expected = [unit**2 * float(row.features @ covariance @ row.features) for row in rows]
        at = [int(i) for i in prepared.split.train[:10]]
        if kind != "dipole":  # a length is not linear
            assert found[name].epistemic[at] == pytest.approx(np.array(expected), rel=1e-4), name
            assert found[name].mean == pytest.approx(plain[name].mean, rel=1e-4)
        assert found[name].aleatoric == pytest.approx(plain[name].aleatoric, rel=1e-4)


def test_the_size_explains_the_errors_of_the_validation(properties, tmp_path):
    """α² is the mean of ΔE² over the variance with α = 1; of many draws their spread has it."""
    folder, config, prepared, frames = properties
    fit_posterior(load_checkpoint(folder / "out"), Request("llpr", members=512), folder, tmp_path, CPU)
    held = [frames[i] for i in prepared.split.validation]
    found = PropertyModel(tmp_path, device="cpu").predict(held)
    for name, kind in config.model.targets.items():
        labels = np.array([atoms.info.get(name, np.nan) for atoms in held])
        ratio = np.nanmean((labels - found[name].mean) ** 2 / found[name].epistemic)
        if kind != "dipole":  # a length is not linear
            assert ratio == pytest.approx(1.0, rel=1e-2), name


def test_a_training_with_it_from_the_command(tmp_path):
    frames = [test_properties.labelled(seed) for seed in range(40)]
    config, prepared = test_properties.run(tmp_path, frames, posterior="llpr", members=4)
    finish(config, prepared, train(config, prepared, tmp_path / "out", CPU, False), tmp_path / "out", CPU)
    found = PropertyModel(tmp_path / "out", device="cpu").predict(frames[:5])
    assert all((value.epistemic > 0).all() and (value.aleatoric > 0).all() for value in found.values())


def test_predictions_need_one_trunk(properties, tmp_path):
    """The trunk is evaluated once for all draws; each by itself gives the same."""
    folder, config, _, frames = properties
    made = fit_posterior(load_checkpoint(folder / "out"), Request("llpr", members=6), folder, tmp_path, CPU)
    model = PropertyModel(tmp_path, device="cpu")
    assert len(model.posterior.parameters["embedding"]) == 1
    whole = with_surfaces(load_stack(replace(made, parameters=expanded(made.parameters)), torch.float64, CPU), made, 0)
    each = whole.predict_each(from_atoms(frames[3], config.model.cutoff))
    for one, value in zip(each, model.predict(frames[3]).values(), strict=True):
        assert one.energy == pytest.approx(value.mean) and one.energy_epistemic == pytest.approx(value.epistemic)


@pytest.mark.nightly
def test_the_states_of_a_trunk(tmp_path):
    config, prepared = test_states.run(tmp_path, posterior="mve", members=1, model__head="joint")
    finish(config, prepared, train(config, prepared, tmp_path / "out", CPU, False), tmp_path / "out", CPU)
    made = fit_posterior(load_checkpoint(tmp_path / "out"), Request("llpr", members=256), tmp_path, tmp_path / "new", CPU)
    whole = with_surfaces(load_stack(made, torch.float64, CPU), made, 0)
    held = [test_states.labelled(seed) for seed in prepared.split.validation]
    predictions = [whole.predict_each(from_atoms(atoms, config.model.cutoff)) for atoms in held]
    for k, name in enumerate(config.model.states):  # α² of each; so many draws make the closed form
        errors = [atoms.info[f"energy_{name}"] - one[k].energy[0] for atoms, one in zip(held, predictions)]
        spread = [one[k].energy_epistemic[0] for one in predictions]
        assert np.mean(np.square(errors) / spread) == pytest.approx(1.0, rel=1e-4)
    assert made.posterior == "llpr" and len(made.training["posterior"]["calibration"]) == 3
    atoms = test_states.labelled(77)
    for state in (0, 1):
        atoms.calc = RACECalculator(tmp_path / "new", state=state, device="cpu")
        assert atoms.get_forces().shape == (len(atoms), 3)
        results = atoms.calc.results
        assert results["energy_uncertainty_epistemic"] > 0 and results["gap_uncertainty_epistemic"] > 0
        assert results["forces_covariance_epistemic"].shape == (len(atoms), 3, 3)


def test_no_label_of_a_property_in_the_validation(tmp_path):
    frames = [test_properties.labelled(seed) for seed in range(32)]
    for atoms in frames[-16:]:
        del atoms.info["mu_"]
    config, prepared = test_properties.run(tmp_path, frames, posterior="llpr", members=4)
    with pytest.raises(ValueError, match="no validation structure has one of the properties"):
        finish(config, prepared, train(config, prepared, tmp_path / "out", CPU, False), tmp_path / "out", CPU)
