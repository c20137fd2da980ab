"""race-calc train --from MODEL --add FILE: more labels for a finished model."""

import json

import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from small_run import frame, write_run
from typer.testing import CliRunner

from race_calc.cli import app
from race_calc.data.dataset import read_dataset
from race_calc.data.label_names import NamesOfNew
from race_calc.data.sources import read_sources
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.train.config import ConfigError, load_config
from race_calc.train.continued import GENTLER, _shares, continued, repeats_of
from race_calc.train.labels import label_names
from race_calc.train.loop import train
from race_calc.train.prepare import prepare


def run(*arguments):
    done = CliRunner().invoke(app, ["train", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """A folder with data, a model, and 24 new frames of which two are known and one comes twice."""
    folder = tmp_path_factory.mktemp("before")
    path = write_run(folder, training__epochs=8, data__validation_from="random")
    code, output = run(path, "--out", folder / "model")
    assert code == 0, output
    new = [frame(seed) for seed in range(100, 124)]
    write(folder / "new.xyz", [*new, new[3], frame(0), frame(5)])
    write(folder / "other.xyz", [frame(seed) for seed in range(500, 520)])
    return folder


@pytest.fixture(scope="module")
def after(before):
    code, output = run("--from", before / "model", "--add", before / "new.xyz", "--data", before, "--out", before / "more")
    assert code == 0 and "3 known already" in output and "are the fewest" in output, output
    return before / "more"


def hashes(model):
    return {part: set(value.split()) for part, value in load_checkpoint(model).data["structures"].items()}


def test_old_frames_stay_in_their_part_and_new_ones_are_shared_out(before, after):
    old, new = hashes(before / "model"), hashes(after)
    assert old["train"] < new["train"] and old["validation"] < new["validation"]
    counts = {part: len(read(after / "data" / f"{part}.xyz", ":")) for part in ("train", "new", "validation", "calibration")}
    assert (
        counts["train"] == 8
        and sum(counts.values()) == 12 + 24
        and 4 + 2 <= counts["validation"] <= 4 + 3
        and 2 <= counts["calibration"] <= 3
    )
    everything = read(after / "data" / "train.xyz", ":")
    assert load_config(after / "train.yaml").data.repeats == (1, 1)
    for atoms in everything[:8]:
        original = min((frame(seed) for seed in range(12)), key=lambda one: np.abs(one.positions - atoms.positions).max())
        assert atoms.get_potential_energy() == pytest.approx(original.get_potential_energy())
        np.testing.assert_allclose(atoms.get_forces(), original.get_forces(), atol=1e-7)


def pace(old, new):
    """Of a training from the start: the fewer structures are new, the slower it goes on."""
    return GENTLER * np.sqrt(new / (old + new))


def test_it_starts_where_the_model_was(before, after):
    one, other = load_checkpoint(before / "model"), load_checkpoint(after)
    assert other.references == one.references and other.model.scale == one.model.scale
    config = other.training["config"]["training"]
    first, new = one.training["config"]["training"], len(read(after / "data" / "new.xyz", ":"))
    views = (8 + new) * first["epochs"]  # of a training from the start
    assert abs(config["epochs"] * (8 + repeats_of(8, new) * new) - 0.24 * views) <= 0.5 * (8 + repeats_of(8, new) * new)
    assert config["keep"] == "last" and other.training["best_epochs"] == [config["epochs"]] * other.members
    assert config["keep_references"] and config["learning_rate"] == pytest.approx(first["learning_rate"] * pace(8, new))
    first = json.loads((after / "training_log.jsonl").read_text().splitlines()[0])
    errors = [json.loads(line)["mean_force_rmse_eV_per_A"] for line in (before / "model" / "training_log.jsonl").read_text().splitlines()]
    assert first["mean_force_rmse_eV_per_A"] < 0.8 * errors[0]  # it does not begin anew


@pytest.mark.nightly
def test_again_from_what_was_continued(before, after, tmp_path):
    """It has its data beside it, and what was held back for calibration stays so."""
    write(tmp_path / "newer.xyz", [frame(seed) for seed in range(200, 290)])
    write(tmp_path / "newest.xyz", [frame(seed) for seed in range(300, 390)])
    write(tmp_path / "few.xyz", [frame(seed) for seed in range(600, 760)])
    few = run("--from", after, "--add", tmp_path / "few.xyz", "--out", tmp_path / "few", "--epochs", 1)
    assert few[0] == 0 and "20 are the fewest" in few[1] and load_checkpoint(tmp_path / "few").thresholds  # 18 would leave it without
    command = ["--from", after, "--add", tmp_path / "newer.xyz", "--add", tmp_path / "newest.xyz", "--out", tmp_path / "out", "--epochs", 1]
    code, output = run(*command)
    assert code == 0 and "The calibration is in" in output, output
    assert load_checkpoint(tmp_path / "out").calibration.frames == len(read(after / "data" / "calibration.xyz", ":")) + 18
    held = {tuple(atoms.positions.ravel().round(4)) for atoms in read(after / "data" / "calibration.xyz", ":")}
    assert held < {tuple(atoms.positions.ravel().round(4)) for atoms in read(tmp_path / "out" / "data" / "calibration.xyz", ":")}
    code, output = run(*command)
    assert code == 1 and "holds a run: add --resume" in output
    assert run(*command, "--resume")[0] == 0  # nothing is left to do
    assert load_checkpoint(tmp_path / "out").training["config"]["training"]["epochs"] == 1
    again = continued(load_checkpoint(tmp_path / "out"), tmp_path / "out", [before / "other.xyz"], None, tmp_path / "third")
    settings, first = again.config.training, load_checkpoint(before / "model").training["config"]["training"]
    assert (settings.epochs, settings.warmup_epochs) == (1, 0)  # not a seventh of a seventh
    old, new = (len(read(tmp_path / "third" / "data" / f"{part}.xyz", ":")) for part in ("train", "new"))
    assert settings.learning_rate == pytest.approx(first["learning_rate"] * pace(old, new))  # that of the first, not of the one before


@pytest.mark.nightly
def test_killed_before_it_began_and_in_the_middle(before, tmp_path):
    """The same command begins, with --resume it ends with the same weights."""
    out, command = tmp_path / "out", ["--from", before / "model", "--add", before / "new.xyz", "--data", before]
    continued(load_checkpoint(before / "model"), before / "model", [before / "other.xyz"], before, out)  # killed after this
    (out / "data" / "calibration.xyz").write_text("left over")
    code, output = run(*command, "--out", out, "--resume", "--epochs", 3)
    assert code == 0, output
    straight = tmp_path / "straight"
    made = continued(load_checkpoint(before / "model"), before / "model", [before / "new.xyz"], before, straight, 3)
    prepared = prepare(made.config, straight)

    def stop(record: dict) -> None:
        if record["kind"] == "epoch" and record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(made.config, prepared, straight, torch.device("cpu"), False, stop)
    code, output = run(*command, "--out", straight, "--resume")
    assert code == 0, output
    assert (out / "weights.safetensors").read_bytes() == (straight / "weights.safetensors").read_bytes()


def test_all_sizes_are_held_back():
    assert [repeats_of(450, new) for new in (1, 18, 30, 90, 900, 0)] == [20, 20, 20, 8, 1, 1]
    shares = [_shares(60, seed) for seed in range(200)]
    for part in ("validation", "calibration"):
        chosen = np.array([[own == part for own in one] for one in shares])
        assert (chosen.sum(1) == 6).all() and abs((chosen @ np.arange(60)).mean() / 6 - 29.5) < 1.5
        assert 0.02 < chosen[:, -1].mean() < 0.25  # the largest is sometimes held back, not always


@pytest.mark.nightly
def test_labels_under_other_names_stay_so(tmp_path):
    """And what is called energy in those files is not read in later rounds either."""

    def named(seeds, path):
        made = [frame(seed) for seed in seeds]
        for atoms in made:
            atoms.info["REF_energy"], atoms.arrays["REF_forces"] = atoms.get_potential_energy(), atoms.get_forces()
            atoms.calc = SinglePointCalculator(atoms, energy=-77.0, forces=np.zeros((len(atoms), 3)))
        write(path, made)

    path = write_run(tmp_path, data__keys={"energy": "REF_energy", "forces": "REF_forces"})
    named(range(12), tmp_path / "data.xyz")
    assert run(path, "--out", tmp_path / "m0")[0] == 0
    for k in (1, 2):
        named(range(100 * k, 100 * k + 20), tmp_path / f"new{k}.xyz")
        data = ["--data", tmp_path] if k == 1 else []
        code, output = run("--from", tmp_path / f"m{k - 1}", "--add", tmp_path / f"new{k}.xyz", "--out", tmp_path / f"m{k}", *data)
        assert code == 0, output
        learned = load_config(tmp_path / f"m{k}" / "train.yaml")
        energies = read_sources(tmp_path / f"m{k}", learned.data.train, label_names(learned.data.keys)).energy
        assert (energies > -70.0).all()


def test_another_zero_of_the_energy_is_noticed(before, tmp_path):
    shifted = [frame(seed) for seed in range(400, 420)]
    for atoms in shifted:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy() - 500.0, forces=atoms.get_forces())
    write(tmp_path / "shifted.xyz", shifted)
    code, output = run(
        "--from", before / "model", "--add", tmp_path / "shifted.xyz", "--data", before, "--out", tmp_path / "o", "--epochs", 1
    )
    assert code == 0 and "Warning: of the new labels energies are off by about" in output, output


def test_a_posterior_is_fitted_to_it(before, after, tmp_path):
    options = ["--method", "llpr", "--data", after, "--members", "4", "--out", tmp_path / "llpr"]
    done = CliRunner().invoke(app, ["posterior", "fit", str(after), *map(str, options)])
    assert done.exit_code == 0, done.output
    assert load_checkpoint(tmp_path / "llpr").references == load_checkpoint(before / "model").references


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "give either CONFIG or --from MODEL"),
        (["train.yaml", "--from", "model"], "give either CONFIG or --from MODEL"),
        (["train.yaml", "--add", "new.xyz"], "--add go with --from"),
        (["--from", "model", "--data", "."], "give --add FILE"),
        (["--from", "model", "--add", "new.xyz"], "give --data FOLDER"),
        (["--from", "model", "--add", "data.xyz", "--data", "."], "all 12 structures of data.xyz are known already"),
        (["--from", "model", "--add", "absent.xyz", "--data", "."], "absent.xyz does not exist"),
        (["--from", "model", "--add", "new.xyz", "--data", "other"], "their SHA-256 differs"),
    ],
)
def test_what_cannot_be(before, monkeypatch, tmp_path, arguments, said):
    monkeypatch.chdir(before)
    (before / "other").mkdir(exist_ok=True)
    write(before / "other" / "data.xyz", [frame(seed) for seed in range(50, 62)])
    code, output = run(*arguments, "--out", tmp_path / "out")
    assert code == 1 and said in output, output
    assert not (tmp_path / "out" / "train.yaml").exists()


def test_references_are_kept_of_a_model_only(tmp_path):
    with pytest.raises(ConfigError, match="kept of a model: give training.start_from"):
        load_config(write_run(tmp_path, training__keep_references=True))


@pytest.mark.nightly
def test_names_of_labels_of_your_own_and_labels_of_race_calc(tmp_path):
    """A model that reads REF_energy goes on with files of `race-calc label`, which have ASE's names, and again with its own."""
    frames = [named(seed) for seed in range(12)]
    keys = {"energy": "REF_energy", "forces": "REF_forces"}
    path = write_run(tmp_path, data__keys=keys, training__epochs=4)
    write(tmp_path / "data.xyz", frames)
    code, output = run(path, "--out", tmp_path / "model")
    assert code == 0, output
    write(tmp_path / "new.xyz", [frame(seed) for seed in range(100, 112)])
    write(tmp_path / "newer.xyz", [named(seed) for seed in range(200, 212)])
    code, output = run("--from", tmp_path / "model", "--add", tmp_path / "new.xyz", "--data", tmp_path, "--out", tmp_path / "more")
    assert code == 0, output
    code, output = run("--from", tmp_path / "more", "--add", tmp_path / "newer.xyz", "--out", tmp_path / "most")
    assert code == 0, output
    config = load_config(tmp_path / "most" / "train.yaml")
    assert config.data.keys.energy == "REF_energy"
    everything = [atoms for name in ("train", "new") for atoms in read(tmp_path / "most" / "data" / f"{name}.xyz", ":")]
    labels = {f"{atoms.info['REF_energy']:.6f}" for atoms in everything}
    assert f"{frame(100).get_potential_energy():.6f}" in labels or len(labels) > 20


def test_of_a_frame_that_race_calc_labelled_those_labels_are_taken(tmp_path):
    """Under the names of the model's data it may still have labels of another method."""
    stale = frame(1)
    stale.info |= {"labels": "gfn2-xtb", "REF_energy": -999.0, "REF_stress": np.ones(6)}
    stale.arrays["REF_forces"] = np.ones((3, 3))
    write(tmp_path / "new.xyz", [named(0), stale, frame(2)])
    found = read_dataset(tmp_path / "new.xyz", names=NamesOfNew("REF_energy", "REF_forces", "REF_stress"))
    for k in range(3):
        assert found.energy[k] == pytest.approx(frame(k).get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(found.forces[k], frame(k).get_forces(), atol=1e-7)
        assert found.stress[k] is None


def named(seed):
    atoms = frame(seed)
    atoms.info["REF_energy"] = atoms.get_potential_energy()
    atoms.arrays["REF_forces"] = atoms.get_forces()
    atoms.calc = None
    return atoms
