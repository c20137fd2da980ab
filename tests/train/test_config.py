import json
import textwrap

import pytest
from pydantic import ValidationError

from race_calc.model.config import ModelConfig
from race_calc.posterior.base import by_name, names
from race_calc.train.config import ConfigError, TrainConfig, load_config, parse_config

FULL = """
data:
  train: train_300K.xyz
  validation: 50
  validation_from: last
  isolated_atoms: iso_atoms.xyz
model:
  hidden_irreps: 32x0e+32x1o+32x2e
  l_max: 2
  layers: 3
  features_dim: 32
  radial_hidden: [64, 64]
  n_bessel: 8
  cutoff: 5.0
  head: joint
  force_covariance: matrix-log
posterior: deep-ensemble
members: 10
training:
  recipe: joint
  epochs: 100
  batch_size: 5
  learning_rate: 0.008
  schedule: cosine
  warmup_epochs: 1
  ema_decay: 0.99
  clip_norm: 10.0
  energy_weight: 1.0
  force_weight: 100.0
  stress_weight: null
  seed: 0
  dtype: float32
"""


@pytest.fixture
def load(tmp_path):
    def load_text(text):
        path = tmp_path / "config.yaml"
        path.write_text(textwrap.dedent(text))
        return load_config(path)

    return load_text


def with_keys(**sections):
    """Smallest configuration with these keys on top."""
    return {"data": {"train": "a.xyz"}} | sections


def message(content):
    with pytest.raises(ConfigError) as caught:
        parse_config(content)
    return str(caught.value)


def test_full_file_equals_the_defaults(load):
    config = load(FULL)
    short = load("data: {train: train_300K.xyz, isolated_atoms: iso_atoms.xyz}")
    assert config == short and config.model == ModelConfig()
    assert config.model.radial_hidden == (64, 64) and config.data.validation == 50


def test_json_round_trip(load):
    config = load(FULL)
    assert TrainConfig.model_validate(json.loads(json.dumps(config.to_dict()))) == config
    assert ModelConfig.model_validate(json.loads(json.dumps(config.model.to_dict()))) == config.model


def test_settings_are_frozen(load):
    with pytest.raises(ValidationError):
        load(FULL).model.layers = 4


def test_numbers_as_people_write_them(load):
    config = load("data: {train: a.xyz}\ntraining: {learning_rate: 1e-2, force_weight: 100, clip_norm: 1E+1}")
    assert (config.training.learning_rate, config.training.force_weight) == (0.01, 100.0)
    assert config.training.clip_norm == 10.0


def test_validation_from_a_file():
    assert parse_config({"data": {"train": "a", "validation": "b.xyz"}}).data.validation == "b.xyz"
    for wrong in (0, -3, "", True, 2.5, None):
        text = message({"data": {"train": "a", "validation": wrong}})
        assert f"data.validation = {wrong!r} is not allowed" in text and "has 1 problem:" in text


@pytest.mark.parametrize(
    "content, line",
    [
        (with_keys(model={"lmax": 2}), "model.lmax is not a key; did you mean model.l_max?"),
        (with_keys(l_max=2), "l_max is not a key; did you mean model.l_max?"),
        (with_keys(trainning={}), "trainning is not a key; did you mean training?"),
        (with_keys(model={"epochs": 3}), "model.epochs is not a key; did you mean training.epochs?"),
        (with_keys(training={"xyzzy": 3}), "training.xyzzy is not a key; keys of training: recipe, epochs"),
        (with_keys(**{"3": 1}), "3 is not a key; keys here: data, model, posterior, members, mean, training"),
        ({3: 1} | with_keys(), "3 is not a key"),
        ({}, "data is missing: add this section (keys: train, validation"),
        ({"data": {}}, "data.train is missing: give a path relative to the data folder"),
        ({"data": None}, "data must be a section with keys (train"),
        (with_keys(model=[1]), "model must be a section with keys (hidden_irreps, l_max"),
    ],
)
def test_wrong_keys(content, line):
    assert line in message(content)


@pytest.mark.parametrize(
    "section, key, value, allowed",
    [
        ("model", "l_max", 4, "0, 1, 2 or 3"),
        ("model", "l_max", "two", "0, 1, 2 or 3"),
        ("model", "layers", 0, "a whole number >= 1"),
        ("model", "layers", True, "a whole number >= 1"),
        ("model", "layers", 2.0, "a whole number >= 1"),
        ("model", "radial_hidden", [], "a list of whole numbers"),
        ("model", "radial_hidden", [64, 0], "a list of whole numbers"),
        ("model", "radial_hidden", [64, "x"], "a list of whole numbers"),
        ("model", "cutoff", -1.0, "a number > 0, in Å"),
        ("model", "head", "both", "mse, energy, joint or joint-stress"),
        ("model", "force_covariance", "diagonal", "matrix-log or cholesky"),
        ("training", "recipe", "faithful", "joint, detached, beta-nll or warm-start"),
        ("training", "learning_rate", float("nan"), "a number > 0"),
        ("training", "learning_rate", float("inf"), "a number > 0"),
        ("training", "schedule", "linear", "cosine or constant"),
        ("training", "warmup_epochs", 101, "a whole number from 0 to epochs"),
        ("training", "ema_decay", 1.0, "a number >= 0 and < 1"),
        ("training", "stress_weight", -1, "a number >= 0"),
        ("training", "dtype", "float16", "float32 or float64"),
        ("data", "validation_from", "first", "last or random"),
        ("data", "train", 3, "a path"),
        ("data", "isolated_atoms", "", "a path"),
    ],
)
def test_wrong_values_name_key_value_and_allowed(section, key, value, allowed):
    base = {"train": "a.xyz"} if section == "data" else {}
    text = message(with_keys(**{section: base | {key: value}}))
    assert f"{section}.{key} = {value!r} is not allowed" in text
    assert f"allowed: {allowed}" in text and "has 1 problem:" in text


def test_all_problems_at_once():
    text = message(with_keys(model={"l_max": 9, "heads": "mse"}, members=0, posterior="swap"))
    assert "has 4 problems:" in text and len(text.splitlines()) == 5
    for part in (
        "model.l_max = 9",
        "did you mean model.head?",
        "members = 0",
        "allowed: mve, deep-ensemble, swag, ivon, laplace, llpr, shallow-ensemble",
    ):
        assert part in text


@pytest.mark.parametrize(
    "irreps, reason",
    [
        ("foo", "Unable to convert"),
        ("", "0e is missing"),
        ("32x1o", "0e is missing"),
        ("0x0e+3x1o", "multiplicity must be at least 1"),
        ("8x0e+8x4e", "l = 4 is too high"),
        ("8x0e+8x0e", "more than once"),
    ],
)
def test_hidden_irreps(irreps, reason):
    text = message(with_keys(model={"hidden_irreps": irreps}))
    assert f"model.hidden_irreps = {irreps!r}" in text and reason in text and "has 1 problem:" in text


def test_joint_matrix_log_needs_2e():
    small = {"hidden_irreps": "8x0e+8x1o"}
    for extra in ({}, {"force_covariance": "matrix-log"}):
        text = message(with_keys(model=small | extra))
        assert "model.force_covariance = 'matrix-log'" in text
        assert "8x0e+8x1o has none: add for example 32x2e there, or set force_covariance: cholesky" in text
    parse_config(with_keys(model=small | {"force_covariance": "cholesky"}))
    parse_config(with_keys(model=small | {"head": "energy"}))
    with pytest.raises(ValueError, match="has none"):
        ModelConfig(**small)


def test_members_fit_the_posterior():
    assert parse_config(with_keys(posterior="mve", members=1)).members == 1
    assert parse_config(with_keys(members=2)).members == 2
    assert "write 2 or more" in message(with_keys(members=1))
    assert "members = 3 is not allowed (posterior mve" in message(with_keys(posterior="mve", members=3))
    for posterior in names():
        members = {"mve": 1, "deep-ensemble": 10, "llpr": 30}.get(posterior, 16)
        head = {"laplace": "mse"}.get(posterior, "joint")
        config = parse_config(with_keys(posterior=posterior, model={"head": head}))
        assert config.members == members and config.trained == (members if posterior == "deep-ensemble" else 1)
    assert "even number" in message(with_keys(posterior="llpr", members=5))
    assert "write 2 or more" in message(with_keys(posterior="swag", members=1))
    assert all(by_name(posterior).name == posterior for posterior in names())


@pytest.mark.parametrize(
    "posterior, head, allowed", [("laplace", "joint", "mse"), ("ivon", "mse", "joint"), ("shallow-ensemble", "mse", "energy or joint")]
)
def test_posteriors_need_heads(posterior, head, allowed):
    text = message(with_keys(posterior=posterior, model={"head": head}))
    assert f"with posterior {posterior} write model.head: {allowed}, not {head}" in text


def test_all_weights_zero():
    text = message(with_keys(training={"energy_weight": 0, "force_weight": 0, "stress_weight": 0}))
    assert "all weights are 0" in text
    parse_config(with_keys(training={"energy_weight": 0}))


def test_bad_files(tmp_path, load):
    with pytest.raises(ConfigError, match="absent.yaml does not exist"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="config.yaml is not valid YAML"):
        load("data: [1, 2")
    for text, found in (("", "nothing"), ("- 1", "list"), ("word", "str")):
        with pytest.raises(ConfigError, match=f"config.yaml must hold a mapping .*found {found}"):
            load(text)
    with pytest.raises(ConfigError, match="'l_max' is given more than once"):
        load("data: {train: a}\nmodel:\n  l_max: 1\n  l_max: 2\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load("data: !!python/object/apply:os.system [ls]")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "binary.yaml")


def test_error_names_the_file(load):
    with pytest.raises(ConfigError, match=r"config\.yaml has 1 problem:\n  members = 0"):
        load("data: {train: a}\nmembers: 0")


@pytest.mark.parametrize(
    "posterior, training, part",
    [
        ("ivon", {"recipe": "detached"}, "write training.recipe: joint, not detached"),
        ("shallow-ensemble", {"recipe": "beta-nll"}, "write training.recipe: joint, not beta-nll"),
        ("swag", {"recipe": "warm-start"}, "write training.recipe: joint or detached or beta-nll"),
        ("swag", {"epochs": 3}, "write training.epochs: 4 or more"),
        ("ivon", {"stress_weight": 1.0}, "leave out training.stress_weight, or write 0"),
    ],
)
def test_posteriors_refuse_what_they_would_ignore(posterior, training, part):
    assert part in message(with_keys(posterior=posterior, training=training))


def test_numbers_of_members():
    for posterior, right, wrong in (("mve", 1, 2), ("deep-ensemble", 2, 1), ("swag", 2, 1), ("llpr", 2, 3)):
        by_name(posterior).check_members(right)
        with pytest.raises(ValueError, match="members|even number"):
            by_name(posterior).check_members(wrong)


def test_the_mean_is_chosen_by_the_posterior_that_has_a_choice():
    laplace = with_keys(posterior="laplace", model={"head": "mse"})
    assert parse_config(laplace).mean == "map" and parse_config(with_keys()).mean is None
    assert parse_config(laplace | {"mean": "draws"}).mean == "draws"
    assert parse_config(parse_config(laplace | {"mean": "draws"}).to_dict()).mean == "draws"
    with pytest.raises(ConfigError, match="posterior deep-ensemble has no choice of a mean"):
        parse_config(with_keys(mean="map"))
    with pytest.raises(ConfigError, match="mean = 'mode' is not allowed; allowed: map or draws for laplace"):
        parse_config(laplace | {"mean": "mode"})


def test_several_files_and_names_of_labels(tmp_path):
    content = {"data": {"train": ["a.xyz@0:4", "b.xyz"], "validation": ["c.xyz"], "keys": {"energy": "REF_energy"}}}
    config = parse_config(content)
    assert config.data.train == ["a.xyz@0:4", "b.xyz"] and config.data.keys.forces == "forces"
    assert parse_config(config.to_dict()) == config
    for wrong, match in (
        ({"train": []}, "data.train"),
        ({"train": [""]}, "data.train"),
        ({"keys": {"enery": "E"}}, "did you mean data.keys.energy"),
    ):
        with pytest.raises(ConfigError, match=match):
            parse_config({"data": content["data"] | wrong})
