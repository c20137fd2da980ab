"""What the monitor refuses when it is made: files that cannot be written, wrong types, loops that cannot be watched."""

import os

import numpy as np
import pytest
from ase import units
from ase.md.verlet import VelocityVerlet
from ase.optimize.basin import BasinHopping
from ase.optimize.minimahopping import MinimaHopping
from fake_calculator import water

from race_calc import Criterion, UncertaintyMonitor, read_log
from race_calc.md.saving import Spacing

FORCE = "forces_uncertainty_max_epistemic"
HIGH = [Criterion(FORCE, 9.0)]


def verlet():
    return VelocityVerlet(water(), 0.5 * units.fs)


@pytest.mark.parametrize("name", ["logfile", "flagged"])
def test_files_that_cannot_be_written_are_refused_before_the_run(name, tmp_path):
    (tmp_path / "file").write_text("kept")
    os.mkfifo(tmp_path / "fifo")
    dyn = verlet()
    for path, error, message in (
        (tmp_path / "missing" / "a.xyz", FileNotFoundError, f"the folder of {name} .*missing.a.xyz does not exist: make"),
        (tmp_path / "file" / "a.xyz", FileNotFoundError, f"the folder of {name}"),
        (tmp_path, ValueError, f"{name} .* is no file"),
        (tmp_path / "fifo", ValueError, f"{name} .* is no file"),
        (5, TypeError, f"{name} must be a path or None, got 5"),
    ):
        with pytest.raises(error, match=message):
            UncertaintyMonitor(dyn, HIGH, **{"flagged": None, name: path})
    assert (tmp_path / "file").read_text() == "kept" and dyn.observers == []
    UncertaintyMonitor(dyn, HIGH, **{"flagged": None, name: str(tmp_path / "new")})
    assert not (tmp_path / "new").exists()  # looked at, not made


def test_a_file_without_permission_is_refused(tmp_path, monkeypatch):
    import race_calc.md.frames as frames

    def refuse(path, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(frames, "open", refuse, raising=False)  # whoever runs the tests may be root, whom nothing is forbidden
    with pytest.raises(PermissionError, match=r"flagged .*f.xyz cannot be written \(Permission denied\): give another path"):
        UncertaintyMonitor(verlet(), HIGH, flagged=tmp_path / "f.xyz")


@pytest.mark.parametrize("name", ["interval", "quiet"])
def test_intervals_are_whole_numbers(name):
    dyn = verlet()
    for value in (True, 2.0, "2", None, np.float64(2)):
        with pytest.raises(TypeError, match=f"{name} must be a whole number"):
            UncertaintyMonitor(dyn, HIGH, flagged=None, **{name: value})
    for value in (0, -1, np.int64(0)):
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            UncertaintyMonitor(dyn, HIGH, flagged=None, **{name: value})
    assert dyn.observers == []
    monitor = UncertaintyMonitor(dyn, HIGH, flagged=None, **{name: np.int64(2)})
    dyn.run(2)
    assert monitor.record.step == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criteria": Criterion(FORCE, 1.0)}, "list of race_calc.Criterion"),
        ({"criteria": [FORCE]}, "list of race_calc.Criterion"),
        ({"callback": 3}, "callback must be a function"),
        ({"spacing": 5.0}, "spacing must be a race_calc.md.saving.Spacing"),
    ],
)
def test_other_types_are_refused(options, message):
    with pytest.raises(TypeError, match=message):
        UncertaintyMonitor(verlet(), **({"criteria": HIGH, "flagged": None} | options))


def test_spacings_are_numbers():
    for options in ({"time": True}, {"distance": "0.1"}, {"most": 2.5}, {"most": True}):
        with pytest.raises(TypeError, match="of a Spacing must be a"):
            Spacing(**options)
    for options in ({"time": -1.0}, {"distance": np.nan}, {"most": -1}):
        with pytest.raises(ValueError, match="of a Spacing must be"):
            Spacing(**options)
    assert Spacing(np.float32(1), np.int64(0), np.int64(3)).most == 3


def test_numbers_of_numpy_reach_the_log(tmp_path):
    dyn = verlet()
    criterion = Criterion(FORCE, np.float32(0.5), consecutive=np.int64(3))
    assert type(criterion.threshold) is float and type(criterion.consecutive) is int
    UncertaintyMonitor(dyn, [criterion], logfile=tmp_path / "m.jsonl", flagged=None)
    dyn.run(1)
    assert read_log(tmp_path / "m.jsonl")[0].criteria[0]["threshold"] == 0.5


@pytest.mark.parametrize("value", [True, np.array([1.0, 2.0]), "1.0", None, np.nan, -1])
def test_thresholds_are_numbers(value):
    with pytest.raises(ValueError, match="threshold of .* must be 'auto' or a finite number"):
        Criterion(FORCE, value)


def test_loops_that_call_no_observers_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hops = BasinHopping(water(), logfile=None, optimizer_logfile=None)
    with pytest.raises(TypeError, match="BasinHopping cannot be monitored: it calls observers only at a new lowest minimum"):
        UncertaintyMonitor(hops, HIGH, flagged=None)
    with pytest.raises(TypeError, match="not to MinimaHopping"):
        UncertaintyMonitor(MinimaHopping(water()), HIGH, flagged=None)
    with pytest.raises(TypeError, match="checks must be a whole number"):
        dyn = verlet()
        monitor = UncertaintyMonitor(dyn, [Criterion(FORCE, 0.0)], flagged=None)
        dyn.atoms.positions[0, 0] += 0.1
        dyn.run(1)
        monitor.accept(checks=2.5)
