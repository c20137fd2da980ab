"""The model folder: what goes in comes out, bit by bit; what is damaged is named; nothing is executed."""

import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from safetensors.torch import load_file, save_file

from race_calc.data.graph import from_atoms
from race_calc.posterior.checkpoint import FORMAT_VERSION, CheckpointError, Noise, load_checkpoint, save_checkpoint, write_atomically
from race_calc.posterior.load import load_stack
from race_calc.posterior.manifest import write_manifest


@pytest.fixture
def model(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


def load_trusted(folder):
    """What the loader says of a folder whose manifest names the files as they are."""
    write_manifest(folder)
    return load_checkpoint(folder)


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def prediction(checkpoint):
    graph = from_atoms(molecule("CH3CH2OH"), checkpoint.model.plan.config.cutoff)
    return load_stack(checkpoint, torch.float64, torch.device("cpu")).predict(graph)


def test_round_trip_is_bitwise(tiny_model, tmp_path):
    first = load_checkpoint(tiny_model)
    save_checkpoint(tmp_path / "new" / "copy", first, "# card\n")
    second = load_checkpoint(tmp_path / "new" / "copy")
    assert list(second.parameters) == list(first.parameters) and second.members == 2
    for name, value in first.parameters.items():
        assert value.dtype == second.parameters[name].dtype == torch.float64
        assert torch.equal(value, second.parameters[name]), name
    for field in ("model", "references", "posterior", "thresholds", "training", "data"):
        assert getattr(second, field) == getattr(first, field), field
    a, b = prediction(first), prediction(second)
    assert a.energy == b.energy and np.array_equal(a.forces, b.forces)
    assert np.array_equal(a.forces_covariance, b.forces_covariance) and np.array_equal(a.bald_forces, b.bald_forces)
    assert (tmp_path / "new" / "copy" / "card.md").read_text() == "# card\n"
    for name in ("weights.safetensors", "config.json"):
        assert (tmp_path / "new" / "copy" / name).read_bytes() == (tiny_model / name).read_bytes()


def test_views_and_single_precision_are_saved_as_they_are(tiny_model, tmp_path):
    first = load_checkpoint(tiny_model)
    parameters = {name: value.float()[[1]].expand(3, *value.shape[1:]) for name, value in first.parameters.items()}
    save_checkpoint(tmp_path, replace(first, parameters=parameters), "")
    second = load_checkpoint(tmp_path)
    assert second.members == 3
    for name, value in second.parameters.items():
        assert value.dtype == torch.float32 and torch.equal(value, parameters[name])


def test_loads_in_a_fresh_process(tiny_model):
    program = (
        "import sys; from ase.build import molecule; from race_calc import RACECalculator; atoms = molecule('CH3CH2OH');"
        "atoms.calc = RACECalculator(sys.argv[1]); print(repr(atoms.get_potential_energy()))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tiny_model)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(prediction(load_checkpoint(tiny_model)).energy[0], abs=1e-9)


def test_overwriting_leaves_no_temporary_file(tiny_model, model):
    save_checkpoint(model, load_checkpoint(tiny_model), "new card")
    assert sorted(path.name for path in model.iterdir()) == ["card.md", "config.json", "manifest.json", "weights.safetensors"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr("os.replace", lambda *names: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_newer_format_version(model):
    change(model, version=FORMAT_VERSION + 1)
    with pytest.raises(CheckpointError, match=f"format version {FORMAT_VERSION + 1}.*upgrade race_calc"):
        load_trusted(model)


@pytest.mark.parametrize("version", [None, 0, "1", 1.5])
def test_unusable_format_version(model, version):
    change(model, version=version)
    with pytest.raises(CheckpointError, match="no usable format version"):
        load_trusted(model)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.999])
def test_truncated_weights(model, part):
    content = (model / "weights.safetensors").read_bytes()
    (model / "weights.safetensors").write_bytes(content[: int(part * len(content))])
    with pytest.raises(CheckpointError, match="weights.safetensors is damaged or truncated.*copy the model folder again"):
        load_trusted(model)


@pytest.mark.parametrize("key", ["references", "model", "posterior", "average_neighbours", "thresholds", "training", "data"])
def test_missing_key(model, key):
    config = json.loads((model / "config.json").read_text())
    del config[key]
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"lacks the key '{key}'"):
        load_trusted(model)


@pytest.mark.parametrize("key", ["baseline", "cutoff"])
def test_missing_key_of_the_model(model, key):
    """Defaults may change between releases, so a checkpoint states them all."""
    config = json.loads((model / "config.json").read_text())
    del config["model"][key]
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"lacks the key '{key}'"):
        load_trusted(model)


@pytest.mark.parametrize(
    "values",
    [
        {"references": {"species": [1]}},
        {"model": {"hidden_irreps": "4x0o"}},
        {"model": {"unknown": 1}},
        {"posterior": "deep-ensemble"},
        {"average_neighbours": "many"},
        {"thresholds": 3},
    ],
)
def test_unfit_values(model, values):
    change(model, **values)
    with pytest.raises(CheckpointError, match="holds a value that cannot be used"):
        load_trusted(model)


def test_a_posterior_that_nobody_registered(model):
    change(model, posterior={"name": "swap", "members": 2})
    with pytest.raises(CheckpointError, match="no posterior 'swap'.*mve, deep-ensemble, swag, ivon, laplace, llpr, shallow-ensemble"):
        load_trusted(model)


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors"])
def test_missing_file(model, name):
    (model / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {name}: it is not a complete model folder"):
        load_checkpoint(model)


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model folder"):
        load_checkpoint(tmp_path / "absent")


def test_a_file_in_place_of_a_folder(model):
    with pytest.raises(FileNotFoundError, match="no model folder"):
        load_checkpoint(model / "config.json")


@pytest.mark.parametrize("content", [b"", b'{"format": "race_calc', b"\xff\xfe\x00"])
def test_damaged_json(model, content):
    (model / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="config.json is damaged"):
        load_trusted(model)


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": "another program", "version": 1}', "3"])
def test_not_a_race_calc_model(model, content):
    (model / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match="not a race_calc checkpoint"):
        load_trusted(model)


def test_wrong_shapes(model):
    tensors = load_file(model / "weights.safetensors")
    tensors["embedding"] = tensors["embedding"][:, :, :-1].contiguous()
    save_file(tensors, model / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"embedding has shape \(2, 3, 3\), the configuration asks for \(2, 3, 4\)"):
        load_trusted(model)


def test_another_number_of_members(model):
    change(model, posterior={"name": "deep-ensemble", "members": 3})
    with pytest.raises(CheckpointError, match="weights and config do not belong together"):
        load_trusted(model)


@pytest.mark.parametrize("folder", [None, 3, b"models"])
def test_what_is_no_path(folder):
    with pytest.raises(TypeError, match="a model is the path of its folder"):
        load_checkpoint(folder)


def test_missing_tensor(model):
    tensors = load_file(model / "weights.safetensors")
    del tensors["embedding"]
    save_file(tensors, model / "weights.safetensors")
    with pytest.raises(CheckpointError, match="lacks 1 tensors, first embedding"):
        load_trusted(model)


def test_tensor_too_many(model):
    tensors = load_file(model / "weights.safetensors")
    save_file(tensors | {"layers.0.power3.0e": tensors["embedding"].clone()}, model / "weights.safetensors")
    with pytest.raises(CheckpointError, match="holds 1 tensors too many, first layers.0.power3.0e: weights and config do not"):
        load_trusted(model)


class _Touch:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("dump", [pickle.dumps, "torch"])
def test_a_pickle_is_refused_and_not_executed(model, tmp_path, dump):
    trap, weights = tmp_path / "executed", model / "weights.safetensors"
    if dump == "torch":
        torch.save(_Touch(trap), weights)
    else:
        weights.write_bytes(dump(_Touch(trap)))
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        load_trusted(model)
    assert not trap.exists()
    pickle.loads(pickle.dumps(_Touch(trap)))
    assert trap.exists()  # the trap works


def with_a_last_layer(checkpoint):
    """The model as llpr keeps it: one trunk, every member's last layer, and a covariance."""
    size = 64 * checkpoint.model.plan.config.layers
    root = np.random.default_rng(0).normal(size=(size, size))
    parameters = {name: value if name.endswith("readout.out") else value[:1] for name, value in checkpoint.parameters.items()}
    return replace(checkpoint, parameters=parameters, posterior="llpr", last_layer=root @ root.T)


def test_noise_and_the_last_layer_come_back(tiny_model, tmp_path):
    first = replace(with_a_last_layer(load_checkpoint(tiny_model)), noise=Noise(0.25, 0.125))
    save_checkpoint(tmp_path / "new", first, "")
    second = load_checkpoint(tmp_path / "new")
    assert second.noise == Noise(0.25, 0.125) and second.members == 2
    assert np.array_equal(second.last_layer, first.last_layer)
    assert all(torch.equal(value, second.parameters[name]) for name, value in first.parameters.items())


@pytest.mark.parametrize(
    "noise", [{"energy": "a", "forces": 1.0}, {"energy": -1.0, "forces": 1.0}, {"energy": 1.0}, [1, 2], {"energy": None, "forces": 1.0}]
)
def test_noise_that_is_no_variance(model, noise):
    change(model, noise=noise)
    with pytest.raises(CheckpointError, match="config.json"):
        load_trusted(model)


@pytest.mark.parametrize("damage", [np.nan, -1.0])
def test_a_last_layer_that_is_no_covariance(tiny_model, tmp_path, damage):
    bad = with_a_last_layer(load_checkpoint(tiny_model))
    bad.last_layer[3, 3] = damage
    save_checkpoint(tmp_path / "new", bad, "")
    with pytest.raises(CheckpointError, match="covariance of the last layer|last_layer_covariance holds numbers that are not finite"):
        load_trusted(tmp_path / "new")


def test_a_missing_last_layer_covariance(tiny_model, tmp_path):
    save_checkpoint(tmp_path / "new", with_a_last_layer(load_checkpoint(tiny_model)), "")
    tensors = load_file(tmp_path / "new" / "weights.safetensors")
    del tensors["last_layer_covariance"]
    save_file(tensors, tmp_path / "new" / "weights.safetensors")
    with pytest.raises(CheckpointError, match="lacks 1 tensors, first last_layer_covariance"):
        load_trusted(tmp_path / "new")


def test_tensors_lie_in_memory_as_torch_lays_them(tiny_model, tmp_path):
    """In the file they begin at any eighth byte; torch's kernels may round differently there."""
    save_checkpoint(tmp_path / "new", with_a_last_layer(load_checkpoint(tiny_model)), "")
    checkpoint = load_checkpoint(tmp_path / "new")
    assert {value.data_ptr() % 64 for value in checkpoint.parameters.values()} == {0}
    assert checkpoint.last_layer.ctypes.data % 64 == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(model, value):
    tensors = load_file(model / "weights.safetensors")
    tensors["layers.1.readout.hidden"][1, 2, 3] = value
    save_file(tensors, model / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"layers.1.readout.hidden holds numbers that are not finite"):
        load_trusted(model)


def test_weights_of_another_type(model):
    tensors = load_file(model / "weights.safetensors")
    tensors["embedding"] = tensors["embedding"].to(torch.int64)
    save_file(tensors, model / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"embedding holds torch.int64"):
        load_trusted(model)


@pytest.mark.parametrize(
    "keys, value, message",
    [
        (("references", "shift"), float("nan"), "references.shift is not finite"),
        (("references", "energies", 1), float("-inf"), r"references.energies\[1\] is not finite"),
        (("references", "scale"), "nan", "references.scale is nan"),
        (("references", "scale"), -0.5, "references.scale is -0.5"),
        (("references", "species", 2), 300, r"references.species are \[300\]"),
        (("average_neighbours",), float("nan"), "average_neighbours is not finite"),
        (("average_neighbours",), 1e9, "average_neighbours is"),
        (("thresholds", "forces_uncertainty_max"), -1.0, "forces_uncertainty_max is -1.0"),
        (("thresholds", "forces_uncertainty_max"), "high", "forces_uncertainty_max is 'high'"),
        (("posterior", "members"), 10**9, "members is 1000000000"),
        (("posterior", "members"), True, "members is True"),
        (("model", "layers"), 10**7, "model.layers"),
        (("model", "cutoff"), 1e4, "model.cutoff"),
        (("model", "cutoff"), float("inf"), "model.cutoff is not finite"),
        (("model", "features_dim"), 10**9, "model.features_dim"),
        (("model", "n_bessel"), 10**9, "model.n_bessel"),
        (("model", "radial_hidden"), [10**9], "model.radial_hidden"),
        (("model", "hidden_irreps"), "9999999x0e", "model.hidden_irreps"),
    ],
)
def test_absurd_values_are_named(model, keys, value, message):
    config = json.loads((model / "config.json").read_text())
    place = config
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message) as error:
        load_trusted(model)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"version": ' + "9" * 5000 + "}", '{"format": "' + "x" * 10**6 + '"}'])
def test_deep_and_huge_json_give_one_short_message(model, text):
    (model / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config.json is (damaged|not a race_calc checkpoint)") as error:
        load_trusted(model)
    assert len(str(error.value)) < 600
