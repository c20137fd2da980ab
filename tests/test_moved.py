"""Old module names of version 0.1 serve the new places for one version, with a warning."""

import shutil
import subprocess
import sys
import warnings
from importlib import import_module

import pytest

import race_calc
from race_calc import _MOVED, _MOVED_NAMES, Criterion


@pytest.mark.parametrize("old", [name for name, new in _MOVED.items() if new])
def test_an_old_name_warns_and_has_the_names_of_the_new_place(old):
    sys.modules.pop(f"race_calc.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"race_calc.{old} is now race_calc."):
        module = import_module(f"race_calc.{old}")
    for new in _MOVED[old].split():
        for name, value in vars(import_module(f"race_calc.{new}")).items():
            if not name.startswith("__") and (old, name) != ("checkpoint", "save_calibration"):  # has another form, see below
                assert getattr(module, name) is value


def test_names_of_the_module_that_is_a_package_now():
    with pytest.warns(DeprecationWarning, match="is now in race_calc.evaluate.errors"):
        from race_calc.evaluate import evaluate_dataset
    assert evaluate_dataset.__module__ == "race_calc.evaluate.errors"
    with pytest.raises(ImportError):
        from race_calc.evaluate import nothing  # noqa: F401


@pytest.mark.parametrize(
    ("module", "name", "new"), [(old, name, new) for old, names in _MOVED_NAMES.items() for name, new in names.items()]
)
def test_a_name_that_left_a_module_is_served(module, name, new):
    old = import_module(f"race_calc.{module}")
    with pytest.warns(DeprecationWarning, match=f"race_calc.{module}.{name} is now in race_calc.{new}") as seen:
        served = getattr(old, name)
    assert served is getattr(import_module(f"race_calc.{new}"), name) and seen[0].filename == __file__
    with pytest.raises(AttributeError, match=f"race_calc.{module}' has no attribute 'nothing'"):
        old.nothing


def test_what_has_another_form_now(tiny_model, tmp_path):
    from race_calc.posterior.checkpoint import load_checkpoint
    from race_calc.posterior.manifest import hash_weights
    from race_calc.uncertainty.calibration import Calibration
    from race_calc.uncertainty.calibration_vectors import VectorCalibration
    from race_calc.uncertainty.level_map import LevelMap
    from race_calc.uncertainty.storage import read_calibration

    for old in ("report.labels", "checkpoint"):
        sys.modules.pop(f"race_calc.{old}", None)
    with pytest.warns(DeprecationWarning):
        from race_calc.checkpoint import save_calibration
        from race_calc.report.labels import LABELS, with_unit
    assert LABELS["forces_uncertainty_max"] == ("largest force σ", "eV/Å") and with_unit("bald_energy", 0.43) == "0.43 nat"
    calibration = Calibration("", 3, None, VectorCalibration(2.0, LevelMap((0.0, 1.0)), None, ()), {"bald_energy": 0.5})
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    save_calibration(folder, calibration, hash_weights(folder))
    assert read_calibration(folder / "calibration.json", hash_weights(folder)) == calibration == load_checkpoint(folder).calibration
    with pytest.raises(ValueError, match="not those that were calibrated"):
        save_calibration(folder, calibration, "ab" * 32)


def test_the_warning_points_at_the_import():
    sys.modules.pop("race_calc.md.monitor", None)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        from race_calc.md.monitor import Criterion as old
    assert old is Criterion and seen[0].filename == __file__


def test_what_never_was_is_not_there():
    with pytest.raises(ModuleNotFoundError):
        import_module("race_calc.nothing")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        race_calc.nothing


@pytest.mark.nightly
def test_new_names_do_not_warn():
    program = "import warnings; warnings.simplefilter('error', DeprecationWarning); from race_calc import *; import race_calc.md.attach"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
