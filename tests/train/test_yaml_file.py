"""YAML that is deep, huge or no YAML gives one short message that names the file, in bounded time."""

import os
import time

import pytest

from race_calc.train.config import ConfigError, load_config

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(f"{b}: &{b} [{', '.join(9 * ['*' + a])}]\n" for a, b in zip("abcdefgh", "bcdefghi"))


@pytest.mark.parametrize(
    "text, message",
    [
        (BOMB, r"\*a: write the value out"),
        ("data: &d {train: a.xyz}\nmodel: *d\n", r"\*d: write the value out"),
        ("data: {train: a.xyz}\nmodel: " + "[" * 20_000, "nested too deep"),
        ("a: " + "{b: " * 2_000 + "1" + "}" * 2_000, "nested too deep"),
        ("x: " + "a" * 200_000, "has 200,003 bytes"),
        ("members: " + "9" * 5_000, "not valid YAML"),
        ("members: !!int x", "not valid YAML"),
        ("members: !!timestamp x", "not valid YAML"),
        ("members: !!bool x", "not valid YAML"),
        ("? [a, b]\n: 1", "not valid YAML"),
        ("data: 1\n" + "key: 1\nkey: 1\n", "given more than once"),
    ],
)
def test_one_short_message(tmp_path, text, message):
    (tmp_path / "train.yaml").write_text(text)
    began = time.monotonic()
    with pytest.raises(ConfigError, match=message) as error:
        load_config(tmp_path / "train.yaml")
    assert "train.yaml" in str(error.value) and len(str(error.value)) < 600
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "text, key",
    [
        ("data: {train: a.xyz}\nmembers: 0x" + "f" * 50_000, "members = a int of too many digits"),
        ("data: {train: a.xyz}\nmembers: [" + "[1, 2, 3], " * 5_000 + "]", "members = "),
        ("data: {train: a.xyz}\nmodel: {hidden_irreps: " + "4x0e+" * 9_000 + "4x0e}", "model.hidden_irreps = "),
        ("data: {train: a.xyz}\n" + "k" * 900 + ": 1", "kkk … is not a key"),
        ("data: {train: a.xyz}\n" + "".join(f"k{i}: 1\n" for i in range(5_000)), "and 4988 more"),
    ],
)
def test_large_values_are_cut_and_their_keys_named(tmp_path, text, key):
    (tmp_path / "train.yaml").write_text(text)
    with pytest.raises(ConfigError, match=key) as error:
        load_config(tmp_path / "train.yaml")
    assert len(str(error.value)) < 1_500


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "train.yaml")
    with pytest.raises(ConfigError, match=r"train.yaml is a pipe"):
        load_config(tmp_path / "train.yaml")
