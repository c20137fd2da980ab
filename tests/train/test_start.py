"""A training that goes on from a finished model."""

from dataclasses import replace

import pytest
import torch
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from ase.io import read, write
from small_run import write_run

from race_calc import RACECalculator
from race_calc.data.dataset import read_dataset
from race_calc.evaluate.calibrate import calibrate
from race_calc.posterior.calibrations import save_calibration
from race_calc.posterior.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from race_calc.train.config import load_config
from race_calc.train.context import context_of
from race_calc.train.finish import finish
from race_calc.train.fit import Request, fit_posterior
from race_calc.train.loop import train
from race_calc.train.prepare import prepare
from race_calc.train.validate import errors_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds the model `before`, of two members."""
    found = tmp_path_factory.mktemp("start")
    config = load_config(write_run(found, training__epochs=4))
    prepared = prepare(config, found)
    finish(config, prepared, train(config, prepared, found / "before", CPU, False), found / "before", CPU)
    return found


def test_it_starts_with_the_model_and_its_constants(folder):
    config = load_config(write_run(folder, training__start_from="before", training__seed=77))
    prepared, start = prepare(config, folder), load_checkpoint(folder / "before")
    assert all(torch.equal(value.double(), prepared.parameters[name]) for name, value in start.parameters.items())
    assert (prepared.model.scale, prepared.model.neighbours) == (start.model.scale, start.model.neighbours)
    assert prepared.references.scale == start.references.scale
    before = errors_of(context_of(config, prepared, CPU), prepared.parameters)
    assert before["force_rmse_eV_per_A"] == pytest.approx(start.training["validation"]["force_rmse_eV_per_A"], rel=1e-4)


def test_resuming_what_is_finished_keeps_its_calibration(folder, tmp_path):
    config = load_config(write_run(tmp_path, training__epochs=1))
    prepared = prepare(config, tmp_path)
    for resume in (False, True):
        finish(config, prepared, train(config, prepared, tmp_path / "out", CPU, resume), tmp_path / "out", CPU)
        if not resume:
            calibrator = RACECalculator(tmp_path / "out", "cpu", calibrated=False)
            found, _ = calibrate(calibrator, read_dataset(tmp_path / "data.xyz"))
            save_calibration(tmp_path / "out", found)
            before = (tmp_path / "out" / "calibration.json").read_bytes()
    assert (tmp_path / "out" / "calibration.json").read_bytes() == before
    assert load_checkpoint(tmp_path / "out").calibration is not None
    (tmp_path / "out" / "calibration.json").write_bytes(before.replace(b"1", b"2"))
    made = load_checkpoint(tmp_path / "out", calibration=False)
    save_checkpoint(tmp_path / "out", made, "")
    with pytest.raises(CheckpointError, match=r"calibration.json .*manifest.json"):
        load_checkpoint(tmp_path / "out")  # the same weights do not make it a sound one
    save_checkpoint(tmp_path / "out", replace(made, parameters={name: 2 * value for name, value in made.parameters.items()}), "")
    assert load_checkpoint(tmp_path / "out").calibration is None


def test_it_gets_better_and_resumes(folder, tmp_path):
    config = load_config(write_run(folder, training__start_from="before", training__epochs=3, training__learning_rate=0.002))
    prepared, start = prepare(config, folder), load_checkpoint(folder / "before")
    trained = train(config, prepared, tmp_path / "out", CPU, False)
    made = finish(config, prepared, trained, tmp_path / "out", CPU)
    assert made.training["validation"]["mean_force_rmse_eV_per_A"] < start.training["validation"]["mean_force_rmse_eV_per_A"]
    fresh = prepare(load_config(write_run(folder, training__epochs=3, training__learning_rate=0.002)), folder)
    assert fresh.fingerprint != prepared.fingerprint == prepare(config, folder).fingerprint


def test_fewer_members_and_two_levels(folder):
    low = {"file": "data.xyz"}
    config = load_config(write_run(folder, training__start_from="before", posterior="mve", members=1, data__low_level=low))
    prepared, start = prepare(config, folder), load_checkpoint(folder / "before")
    assert torch.equal(prepared.parameters["embedding"], start.parameters["embedding"][:1].double())
    assert "layers.1.readout.high" in prepared.parameters


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(model__layers=1), r"another architecture: layers 2 \(here 1\); write the same in model"),
        (dict(model__head="mse"), r"another architecture: head joint \(here mse\)"),
        (dict(members=3), "has 2 members, 3 are trained: equal ones stay equal"),
        (dict(posterior="shallow-ensemble", members=2), "a shallow-ensemble cannot start from a deep-ensemble"),
        (dict(training__start_from="absent"), "training.start_from, which is relative to the data folder: no model folder"),
    ],
)
def test_models_that_it_cannot_start_from(folder, changes, message):
    config = load_config(write_run(folder, **{"training__start_from": "before", **changes}))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        prepare(config, folder)


def test_another_baseline_is_another_quantity(folder):
    config = load_config(write_run(folder, training__start_from="before", model__baseline="none"))
    with pytest.raises(ValueError, match=r"another architecture: baseline zbl \(here none\)"):
        prepare(config, folder)


def test_another_calculator_is_another_baseline(tmp_path):
    config = load_config(write_run(tmp_path, model__baseline="external", training__epochs=1))
    prepared = prepare(config, tmp_path, EMT())
    finish(config, prepared, train(config, prepared, tmp_path / "before", CPU, False), tmp_path / "before", CPU)
    config = load_config(write_run(tmp_path, model__baseline="external", training__start_from="before"))
    prepare(config, tmp_path, EMT())
    with pytest.raises(ValueError, match=r"training.start_from: .*before: the calculator that was given as baseline is not that of the"):
        prepare(config, tmp_path, MorsePotential(epsilon=0.3, r0=2.6, rho0=4.0, rcut1=3.0, rcut2=4.0))


@pytest.mark.parametrize("method", ["llpr", "laplace"])
def test_a_posterior_is_fitted_to_what_went_on(tmp_path, method):
    """On other data than those of the model that it started from, whose scale it keeps."""
    config = load_config(write_run(tmp_path, training__epochs=1, model__head="mse"))
    prepared = prepare(config, tmp_path)
    finish(config, prepared, train(config, prepared, tmp_path / "first", CPU, False), tmp_path / "first", CPU)
    config = load_config(write_run(tmp_path, n=14, training__epochs=1, model__head="mse", training__start_from="first"))
    prepared = prepare(config, tmp_path)
    finish(config, prepared, train(config, prepared, tmp_path / "second", CPU, False), tmp_path / "second", CPU)
    before = load_checkpoint(tmp_path / "second")
    made = fit_posterior(before, Request(method), tmp_path, tmp_path / method, CPU)
    assert made.references == before.references and made.model.neighbours == before.model.neighbours


def test_other_elements(folder):
    config = load_config(write_run(folder, training__start_from="before"))
    frames = read(folder / "data.xyz", ":")
    for atoms in frames:
        atoms.symbols[2] = "Au"
    write(folder / "data.xyz", frames)
    with pytest.raises(ValueError, match=r"knows Cu, Ag, the training data hold Cu, Au: they must be the same"):
        prepare(config, folder)
