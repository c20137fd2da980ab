"""A run as its log tells it: terminal and page."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet
from fake_calculator import HarmonicEnsemble
from typer.testing import CliRunner

from race_calc import Criterion, UncertaintyMonitor, read_log
from race_calc.cli import app
from race_calc.md.session import Session, run_session
from race_calc.report.live import curve, now_of

NAME = "forces_uncertainty_max"


def run(path, threshold, action="halt"):
    atoms = molecule("H2O")
    atoms.calc = HarmonicEnsemble(atoms)
    atoms.rattle(0.05, seed=0)
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    UncertaintyMonitor(dynamics, [Criterion(NAME, threshold, action)], logfile=path, flagged=None, quiet=1)
    dynamics.run(6)
    return dynamics


class Cells(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.texts = []
        self.feed(text)

    def handle_data(self, data):
        self.texts.append(data)


def test_a_run_that_goes_on_and_one_that_was_halted(tmp_path):
    run(tmp_path / "a.jsonl", 1e3)
    now = now_of(read_log(tmp_path / "a.jsonl")[-1])
    assert now["step"] == 6 and now["halt"] is None and len(now["scores"][NAME]["lately"]) == 7
    done = CliRunner().invoke(app, ["watch", str(tmp_path / "a.jsonl"), "--once"])
    assert done.exit_code == 0 and "running" in done.output and "largest force" in done.output, done.output
    run(tmp_path / "b.jsonl", 1e-9)
    page = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["watch", str(tmp_path / "b.jsonl"), "--html", str(page)])  # ends, as the run has
    assert done.exit_code == 0 and "HALTED" in done.output and f"halt at step 0: {NAME}" in done.output
    text = page.read_text()
    texts = Cells(text).texts
    assert 'http-equiv="refresh" content="2"' in text and any("HALTED" in one for one in texts) and any("(above)" in one for one in texts)
    assert "://" not in text


def test_thresholds_that_were_changed_and_a_last_run_without_a_check(tmp_path):
    path = tmp_path / "log.jsonl"
    atoms = molecule("H2O")
    atoms.calc = HarmonicEnsemble(atoms)
    atoms.rattle(0.05, seed=0)
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    monitor = UncertaintyMonitor(dynamics, [Criterion(NAME, 1e-9)], logfile=path, flagged=None)
    dynamics.run(3)
    monitor.accept()
    assert now_of(read_log(path)[-1])["scores"][NAME]["threshold"] == monitor.criteria[0].threshold > 1e-9
    dynamics.run(3)
    monitor.detach()
    last = UncertaintyMonitor(dynamics, [Criterion(NAME, 1.0)], logfile=path, flagged=None)
    last.criteria = [Criterion(NAME, 2.0)]
    running = CliRunner().invoke(app, ["watch", str(path), "--once"])
    assert running.exit_code == 1 and "no check yet: wait for the first one" in running.output
    last.detach()
    assert len(read_log(path)) == 2 and not len(read_log(path)[-1].step)
    done = CliRunner().invoke(app, ["watch", str(path), "--once"])
    assert done.exit_code == 0 and "ended" in done.output, done.output


def test_a_run_that_has_ended(tmp_path):
    """And `watch` ends with it, without --once."""
    atoms = molecule("H2O")
    atoms.calc = HarmonicEnsemble(atoms)
    atoms.calc.thresholds = {f"forces_uncertainty_{name}_epistemic": 1e3 for name in ("rms", "max")}
    run_session(atoms, Session(steps=10), tmp_path)
    done = CliRunner().invoke(app, ["watch", str(tmp_path / "monitor.jsonl")])
    assert done.exit_code == 0 and "ended" in done.output and "running" not in done.output, done.output


def test_a_halt_by_a_number_that_is_none(tmp_path):
    """The log has it as a string."""
    run(tmp_path / "a.jsonl", 1e-9)
    text = (tmp_path / "a.jsonl").read_text()
    value = json.loads(text.splitlines()[1])["violations"][0]["value"]
    (tmp_path / "a.jsonl").write_text(text.replace(f'"value": {value!r}', '"value": "nan"'))
    assert np.isnan(read_log(tmp_path / "a.jsonl")[-1].violations[0][0]["value"])
    done = CliRunner().invoke(app, ["watch", str(tmp_path / "a.jsonl"), "--once"])
    assert done.exit_code == 0 and f"halt at step 0: {NAME} = nan" in done.output, done.output


def test_flags_are_counted(tmp_path):
    run(tmp_path / "a.jsonl", 1e-9, "flag")
    now = now_of(read_log(tmp_path / "a.jsonl")[-1])
    assert now["flags"] == 7 and len(now["acted"]) == 5 and now["halt"] is None


def test_curves():
    assert curve(np.array([0.0, 1.0, np.nan, 0.5])) == "▁█ ▄" and curve(np.array([np.nan])) == "" and curve(np.ones(2)) == "▁▁"


def test_what_is_no_log(tmp_path):
    for content, message in ((None, "there is no log"), ("{}\n", "not one of a monitor's log")):
        if content is not None:
            (tmp_path / "x.jsonl").write_text(content)
        done = CliRunner().invoke(app, ["watch", str(tmp_path / "x.jsonl"), "--once"])
        assert done.exit_code == 1 and message in done.output
    run(tmp_path / "y.jsonl", 1e3)
    first = (tmp_path / "y.jsonl").read_text().splitlines()[0]
    (tmp_path / "y.jsonl").write_text(first + "\n")
    with pytest.raises(ValueError, match="no check yet"):
        now_of(read_log(tmp_path / "y.jsonl")[-1])
