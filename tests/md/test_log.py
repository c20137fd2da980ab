"""The log as arrays, of this version and of the one before; files that are no log."""

import json

import numpy as np
import pytest

from race_calc.md.log import LOG_VERSION, append_line, json_line, read_log

OLD = [
    {
        "event": "start",
        "date": "2026-01-02T03:04:05+0000",
        "dynamics": "Langevin",
        "criteria": [{"name": "bald_energy", "threshold": 0.5, "action": "halt", "consecutive": 1}],
    },
    {
        "event": "step",
        "step": 0,
        "time": 0.0,
        "temperature": 300.0,
        "energy": -1.0,
        "scores": {"bald_energy": 0.1},
        "violations": [],
        "action": None,
    },
    {
        "event": "step",
        "step": 1,
        "time": 0.5,
        "temperature": 310.0,
        "energy": -0.9,
        "scores": {"bald_energy": "nan"},
        "violations": [{"step": 1, "criterion": "bald_energy", "value": "nan", "threshold": 0.5}],
        "action": "halt",
    },
]


def test_a_log_of_version_1(tmp_path):
    path = tmp_path / "old.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in OLD * 2) + '{"event": "st')
    first, second = read_log(path)
    assert first.run is None and first.model is None and first.date == OLD[0]["date"]
    np.testing.assert_array_equal(first.step, [0, 1])
    np.testing.assert_array_equal(first.time, [0.0, 0.5])
    np.testing.assert_array_equal(first.scores["bald_energy"], [0.1, np.nan])
    assert second.action == (None, "halt") and second.violations[1][0]["criterion"] == "bald_energy"


def test_two_monitors_may_write_to_one_file(tmp_path):
    path = tmp_path / "m.jsonl"
    for run in ("a", "b"):
        append_line(path, json_line(OLD[0] | {"run": run, "version": LOG_VERSION}))
    for run in ("a", "b", "a"):
        append_line(path, json_line(OLD[1] | {"run": run}))
    assert [(one.run, len(one.step)) for one in read_log(path)] == [("a", 2), ("b", 1)]


def test_files_that_are_no_log(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no log"):
        read_log(tmp_path / "none.jsonl")
    for content, message in (
        ("", "no run"),
        ("[1]\n", "line 1 .* is not one"),
        ('{"epoch": 1}\n', "line 1 .* is not one"),
        (json.dumps(OLD[0] | {"version": LOG_VERSION + 1}), "upgrade race_calc"),
        ("text\n", "no run"),
    ):
        path = tmp_path / "m.jsonl"
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_log(path)


@pytest.mark.parametrize(
    "line",
    [
        '{"event": "start"}',
        '{"event": "start", "version": "2"}',
        '{"event": "start", "version": null}',
        '{"event": "start", "date": "", "criteria": []}\n{"event": "step"}',
    ],
)
def test_damaged_logs_are_refused(tmp_path, line):
    path = tmp_path / "m.jsonl"
    path.write_text(line)
    with pytest.raises(ValueError, match="damaged"):
        read_log(path)
