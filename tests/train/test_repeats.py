"""`data.repeats`: how often each source of the training data is seen in an epoch."""

import numpy as np
import pytest
import torch
from small_run import frame, run_of

from race_calc.train.config import ConfigError
from race_calc.train.loop import train

SOURCES = ["data.xyz@:5", "data.xyz@5:7", "data.xyz@7:12"]


def prepared_with(folder, repeats, **changes):
    frames = [frame(seed) for seed in range(16)]
    changes = {"data__train": SOURCES, "data__validation": "data.xyz@12:", "data__repeats": repeats, "training__epochs": 1} | changes
    return run_of(folder, frames, **changes)


def steps_of(config, prepared, folder) -> list[dict]:
    records: list[dict] = []
    train(config, prepared, folder, torch.device("cpu"), False, records.append)
    return [record for record in records if record["kind"] == "step"]


def test_the_structures_of_a_source_are_seen_so_often(tmp_path, monkeypatch):
    from race_calc.train import loop

    config, prepared = prepared_with(tmp_path, [1, 4, 2])
    assert prepared.repeats == (1,) * 5 + (4,) * 2 + (2,) * 5
    seen = []
    batch = loop.Context.batch

    def counted(self, examples, dtype):
        seen.extend(id(example) for example in examples)
        return batch(self, examples, dtype)

    monkeypatch.setattr(loop.Context, "batch", counted)
    steps = steps_of(config, prepared, tmp_path / "run")
    assert len(steps) == -(-(5 + 8 + 10) // 3)
    assert [seen.count(id(example)) for example in prepared.train] == list(prepared.repeats)


def test_structures_that_validate_are_left_out(tmp_path):
    _, prepared = prepared_with(tmp_path, [1, 4, 2], data__validation=4, data__validation_from="random")
    whole = np.array([1] * 5 + [4] * 2 + [2] * 5)
    assert prepared.repeats == tuple(whole[list(prepared.split.train)]) and len(prepared.repeats) == 8


def test_once_is_as_without(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    one, other = (
        train(config, prepared, tmp_path / name / "run", torch.device("cpu"), False, lambda record: None)
        for name, (config, prepared) in (("a", prepared_with(tmp_path / "a", [1, 1, 1])), ("b", prepared_with(tmp_path / "b", [])))
    )
    for a, b in zip(one.state.tensors().values(), other.state.tensors().values()):
        assert torch.equal(a, b)


def test_runs_of_before_go_on(tmp_path, monkeypatch):
    """A run without repeats tells nothing of them in its fingerprint: it is that of a time before there was such a key."""
    from race_calc.train import fingerprint as module

    told = []
    original = module.json.dumps
    monkeypatch.setattr(module.json, "dumps", lambda content, **options: told.append(original(content, **options)) or told[-1])
    prepared_with(tmp_path, [])
    assert not any("repeats" in text for text in told)
    prepared_with(tmp_path, [1, 2, 1])
    assert any("repeats" in text for text in told)


BAD = [([1, 2], "has 3 sources, data.repeats 2"), ([1, 0, 1], "1 to 100"), ([1, 101, 1], "1 to 100")]


@pytest.mark.parametrize(("repeats", "message"), BAD)
def test_bad_numbers(tmp_path, repeats, message):
    with pytest.raises(ConfigError, match=message):
        prepared_with(tmp_path, repeats)
