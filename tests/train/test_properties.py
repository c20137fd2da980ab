"""Molecular properties on one trunk."""

import json
import shutil

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from resumed import CPU, differing_epochs
from small_run import run_of
from typer.testing import CliRunner

from race_calc import PropertyModel, RACECalculator
from race_calc.cli import app
from race_calc.train.config import ConfigError
from race_calc.train.finish import finish
from race_calc.train.loop import train

NAMES = ["H2O", "CH4", "CH3OH", "C2H2", "CO2", "H2CO", "C2H6", "HCOOH"]
CHARGES = {1: 0.2, 6: 0.1, 8: -0.5}
TARGETS = {"U": "sum", "gap": "mean", "mu": "dipole", "r2": "extent"}
TARGETS = {name + "_": kind for name, kind in TARGETS.items()}  # "gap" is taken


def labelled(seed: int) -> Atoms:
    """What each kind can say exactly."""
    rng = np.random.default_rng(seed)
    atoms = molecule(NAMES[seed % len(NAMES)])
    atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape) + rng.normal(scale=5.0, size=3)
    z, r = atoms.numbers, atoms.positions
    charges = np.array([CHARGES[k] for k in z])
    centre = z @ r / z.sum()
    distances = atoms.get_all_distances()[np.triu_indices(len(z), 1)]
    atoms.info |= {
        "U_": -5.0 * len(z) + np.exp(-distances).sum(),
        "gap_": 7.0 + np.exp(-distances).mean(),
        "mu_": 4.8 * float(np.linalg.norm((charges - charges.mean()) @ r)),
        "r2_": 3.57 * float(z @ ((r - centre) ** 2).sum(1)) + len(z) + 2.0 * np.exp(-distances).sum(),
    }
    return atoms


def run(folder, frames, **changes):
    options = {
        "model": {"hidden_irreps": "8x0e+8x1o", "l_max": 1, "layers": 2, "features_dim": 8, "radial_hidden": [8], "targets": TARGETS}
    }
    return run_of(folder, frames, **(options | {"data__validation": 16, "training__batch_size": 8} | changes))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("properties")
    config, prepared = run(folder, [labelled(seed) for seed in range(64)], training__epochs=10, training__learning_rate=0.04)
    finish(config, prepared, train(config, prepared, folder / "out", CPU, False), folder / "out", CPU)
    return folder / "out"


def test_every_kind_is_learned(model):
    test = [labelled(seed) for seed in range(200, 240)]
    found = PropertyModel(model, device="cpu").predict(test)
    assert list(found) == list(TARGETS)
    for name, value in found.items():
        labels = np.array([atoms.info[name] for atoms in test])
        assert np.abs(value.mean - labels).mean() < 0.5 * labels.std(), name
        assert value.std == pytest.approx(np.sqrt(value.epistemic + value.aleatoric)) and (value.std > 0).all()


def test_neither_origin_nor_orientation_matters(model):
    atoms, moved = labelled(300), labelled(300)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    moved.positions = atoms.positions @ rotation.T + [3.0, -20.0, 7.0]
    one, other = (PropertyModel(model, device="cpu").predict([each]) for each in (atoms, moved))
    for name in TARGETS:
        assert other[name].mean == pytest.approx(one[name].mean, rel=1e-9, abs=1e-9)
        assert other[name].std == pytest.approx(one[name].std, rel=1e-6)


def test_batches_and_precision_agree(model):
    test = [labelled(seed) for seed in range(10)] + [Atoms("O")]
    exact = PropertyModel(model, device="cpu")
    whole, single = exact.predict(test), exact.predict(test, batch=1)
    rough = PropertyModel(model, device="cpu", dtype="float32").predict(test)
    for name in TARGETS:
        assert single[name].mean == pytest.approx(whole[name].mean, abs=1e-9)
        assert rough[name].mean == pytest.approx(whole[name].mean, abs=1e-3)


@pytest.mark.parametrize("posterior, head", [("deep-ensemble", "energy"), ("deep-ensemble", "mse"), ("shallow-ensemble", "energy")])
def test_missing_targets_are_left_out(tmp_path, posterior, head):
    frames = [labelled(seed) for seed in range(48)]
    for i, atoms in enumerate(frames):
        del atoms.info[list(TARGETS)[i % 4]]
    config, prepared = run(tmp_path, frames, posterior=posterior, model__head=head)
    finish(config, prepared, train(config, prepared, tmp_path / "out", CPU, False), tmp_path / "out", CPU)
    log = [json.loads(line) for line in (tmp_path / "out" / "training_log.jsonl").read_text().splitlines()]
    assert not any(log[-1]["skipped_steps"]) and None not in log[-1]["train_loss"]
    assert all(np.isfinite(value.mean).all() for value in PropertyModel(tmp_path / "out", device="cpu").predict(frames).values())


def test_the_unit_of_the_labels_does_not_matter(tmp_path):
    found = []
    for factor in (1.0, 1000.0):
        frames = [labelled(seed) for seed in range(40)]
        for atoms in frames:
            atoms.info = {name: factor * value for name, value in atoms.info.items()}
        (folder := tmp_path / f"{factor}").mkdir()
        config, prepared = run(folder, frames, training__dtype="float64")
        finish(config, prepared, train(config, prepared, folder / "out", CPU, False), folder / "out", CPU)
        found.append(PropertyModel(folder / "out", device="cpu").predict(frames[:4]))
    for name in TARGETS:
        assert found[1][name].mean == pytest.approx(1000.0 * found[0][name].mean, rel=1e-5)
        assert found[1][name].std == pytest.approx(1000.0 * found[0][name].std, rel=1e-3)


def test_a_training_resumes_to_the_same_bits(tmp_path):
    config, prepared = run(tmp_path, [labelled(seed) for seed in range(40)], training__epochs=3)
    assert not any(files for _, files in differing_epochs(config, prepared, tmp_path))


def test_commands_on_a_model_of_properties(tmp_path):
    run(tmp_path, [labelled(seed) for seed in range(40)])
    done = CliRunner().invoke(app, ["train", str(tmp_path / "train.yaml"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0 and "PropertyModel" in done.output and "not finite" not in done.output, done.output
    shown = CliRunner().invoke(app, ["info", str(tmp_path / "out")])
    assert "mu_ (dipole)" in shown.output and "damaged" not in shown.output, shown.output


@pytest.mark.parametrize("posterior, members", [("mve", None), ("shallow-ensemble", 4), ("swag", 4)])
def test_posteriors(tmp_path, posterior, members):
    config, prepared = run(tmp_path, [labelled(seed) for seed in range(40)], posterior=posterior, members=members)
    finish(config, prepared, train(config, prepared, tmp_path / "out", CPU, False), tmp_path / "out", CPU)
    for value in PropertyModel(tmp_path / "out", device="cpu").predict([labelled(90)]).values():
        assert value.std[0] > 0 and (value.epistemic is None) == (posterior == "mve")


def test_forces_are_refused(model, tiny_model):
    with pytest.raises(ValueError, match="has no forces: use race_calc.PropertyModel"):
        RACECalculator(model)
    with pytest.raises(ValueError, match="is a potential, use race_calc.RACECalculator"):
        PropertyModel(tiny_model)
    with pytest.raises(ValueError, match="does not know the element Si"):
        PropertyModel(model).predict([Atoms("Si")])
    with pytest.raises(ValueError, match="no structures"):
        PropertyModel(model).predict([])


@pytest.mark.parametrize(
    "value, said", [("high", "frame 3 .*U_ is high, not a finite number"), (float("nan"), "frame 3 .*not a finite number")]
)
def test_labels_that_cannot_be_used(tmp_path, value, said):
    frames = [labelled(seed) for seed in range(40)]
    frames[3].info["U_"] = value
    with pytest.raises(ValueError, match=said):
        run(tmp_path, frames)


def test_a_property_that_only_the_validation_has(tmp_path):
    frames = [labelled(seed) for seed in range(40)]
    for atoms in frames[:24]:
        del atoms.info["mu_"]
    with pytest.raises(ValueError, match="no structure of the training set has mu_"):
        run(tmp_path, frames)


def test_crystals_and_predictions_are_refused(model, tmp_path):
    frames = [labelled(seed) for seed in range(40)]
    frames[3].cell, frames[3].pbc = np.eye(3) * 9.0, True
    with pytest.raises(ValueError, match="frame 3 .*periodic"):
        run(tmp_path, frames)
    with pytest.raises(ValueError, match="periodic"):
        PropertyModel(model).predict(frames[3])
    frames[3].pbc = False
    write(tmp_path / "in.xyz", frames)
    done = CliRunner().invoke(app, ["predict", str(model), str(tmp_path / "in.xyz"), "--out", str(tmp_path / "out.xyz")])
    assert done.exit_code == 0, done.output
    with pytest.raises(ValueError, match="are predictions"):
        run(tmp_path, read(tmp_path / "out.xyz", ":"))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"model__targets": {"U_": "total"}}, "targets"),
        ({"model__targets": {"gap": "mean"}}, "gap is the name of something else"),
        ({"model__states": ["S0", "S1"]}, "states or properties"),
        ({"model__head": "joint"}, "no forces: write model.head: energy or mse"),
        ({"model__baseline": "zbl"}, "no baseline"),
        ({"model__hidden_irreps": "8x0e"}, "a dipole is read from 1o"),
        ({"model__targets": {"U": "sum", "U_std": "sum"}}, "U_std is how the uncertainty"),
        ({"data__isolated_atoms": "data.xyz"}, "leave out data.isolated_atoms"),
        ({"posterior": "ivon"}, "properties have none: take another"),
    ],
)
def test_configurations_that_cannot_be(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        run(tmp_path, [labelled(seed) for seed in range(40)], **changes)


def test_predicted_to_a_table(model, tmp_path):
    write(tmp_path / "in.xyz", [labelled(seed) for seed in range(3)])
    done = CliRunner().invoke(app, ["predict", str(model), str(tmp_path / "in.xyz"), "--out", str(tmp_path / "out.csv")])
    assert done.exit_code == 0, done.output
    header, *lines = (tmp_path / "out.csv").read_text().splitlines()
    assert header.startswith("structure,formula,U_,U__std,") and len(lines) == 3


def test_many_molecules_are_predicted_together_and_a_bad_one_is_named(model, tmp_path, monkeypatch):
    monkeypatch.setattr("race_calc.cli.predict.TOGETHER", 4)
    frames = [labelled(seed) for seed in range(10)]
    write(tmp_path / "in.xyz", frames)
    command = ["predict", str(model), str(tmp_path / "in.xyz"), "--out", str(tmp_path / "out.json")]
    assert CliRunner().invoke(app, command).exit_code == 0
    single = [PropertyModel(model, device="cpu").predict(atoms) for atoms in frames]
    for row, one in zip(json.loads((tmp_path / "out.json").read_text()), single, strict=True):
        assert row["U_"] == pytest.approx(one["U_"].mean[0]) and row["mu__std_epistemic"] == pytest.approx(one["mu_"].epistemic[0] ** 0.5)
    write(tmp_path / "in.xyz", [*frames[:6], Atoms("Au"), *frames[6:]])
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "left out: 1, the first frame 6: the model does not know the element Au" in done.output
    assert [row["structure"] for row in json.loads((tmp_path / "out.json").read_text())] == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10]


def test_calibrated_and_evaluated(model, tmp_path):
    shutil.copytree(model, folder := tmp_path / "model")
    frames = [labelled(seed) for seed in range(400, 480)]
    del frames[0].info["mu_"]
    write(tmp_path / "held.xyz", frames)
    done = CliRunner().invoke(app, ["calibrate", str(folder), str(tmp_path / "held.xyz")])
    assert done.exit_code == 0 and "Before" in done.output and "PropertyModel" in done.output, done.output
    raw, found = (PropertyModel(folder, device="cpu", calibrated=which).predict(frames) for which in (False, None))
    for name in TARGETS:
        known = [i for i, atoms in enumerate(frames) if name in atoms.info]
        errors = np.abs([frames[i].info[name] - found[name].mean[i] for i in known])
        assert 0.8 <= np.mean(errors <= 1.645 * found[name].std[known]) <= 0.98, name
        assert found[name].mean == pytest.approx(raw[name].mean) and not np.allclose(found[name].std, raw[name].std)
    out = tmp_path / "new" / "out.json"
    judged = CliRunner().invoke(app, ["evaluate", str(folder), str(tmp_path / "held.xyz"), "--json", str(out)])
    assert judged.exit_code == 0 and "79" in judged.output and "the model has seen 80 of 80 structures" in judged.output, judged.output
    told = CliRunner().invoke(app, ["info", str(folder)]).output
    assert all(f"Calibration of {name}" in told for name in TARGETS) and "RACECalculator" not in told
    numbers = json.loads(out.read_text())["data"][str(tmp_path / "held.xyz")]
    assert numbers["mu_"]["count"] == 79 and 0 < numbers["U_"]["mae"] <= numbers["U_"]["rmse"]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["evaluate", "MODEL", "DATA", "--state", "S1"], "leave out --state"),
        (["calibrate", "MODEL", "DATA", "--frames", ":5"], "at least 10"),
    ],
)
def test_what_properties_do_not_take(model, tmp_path, arguments, said):
    write(tmp_path / "data.xyz", [labelled(seed) for seed in range(400, 420)])
    put = {"MODEL": str(model), "DATA": str(tmp_path / "data.xyz")}
    done = CliRunner().invoke(app, [put.get(one, one) for one in arguments])
    assert done.exit_code == 1 and said in " ".join(done.output.split()), done.output
