"""What is drawn of the trainings at equal CPU time: the best of each budget, chosen without the test frames."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SETS = ("validation", "development 600K", "development 1200K", "test 300K", "test 600K", "test 1200K")


@pytest.fixture
def equal_minutes(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import equal_minutes

    return equal_minutes


def row(code, budget, chosen, tested, **more):
    """Force errors `chosen` on the frames for choosing and `tested` on the test frames, meV/Å."""
    errors = {f"{name} force RMSE, meV/Å": tested if name.startswith("test") else chosen for name in SETS}
    return {"code": code, "budget": budget, "minutes": budget, "epochs": 3, **errors, **more}


def test_best_ignores_test_frames(equal_minutes):
    rows = [row("MACE", 30.0, 9.0, 9.0), row("MACE", 15.0, 20.0, 5.0), row("MACE", 15.0, 10.0, 50.0), row("race_calc", 15.0, 1.0, 1.0)]
    found = equal_minutes.best(rows, "MACE")
    assert list(found) == [15.0, 30.0]
    assert found[15.0]["test 300K force RMSE, meV/Å"] == 50.0


def test_epochs_stay_inside_the_budget(equal_minutes):
    assert equal_minutes.epochs_within(15.0, 0.4, 0.3) == 36  # 36 · 0.4 + 0.3 = 14.7, one more would be 15.1
    assert equal_minutes.epochs_within(0.1, 0.4) == 2


def test_add_keeps_other_cases(equal_minutes, tmp_path):
    path = tmp_path / "found.json"
    equal_minutes.add(path, "one", {"epochs": 1})
    equal_minutes.add(path, "two", {"epochs": 2})
    assert json.loads(path.read_text()) == {"one": {"epochs": 1}, "two": {"epochs": 2}}


def test_figure_of_what_is_measured(equal_minutes, tmp_path):
    import training_curve

    results, out = {"a": row("MACE", 15.0, 20.0, 30.0), "b": row("MACE", 60.0, 10.0, 20.0)}, tmp_path / "figures" / "curve"
    training_curve.draw(results, out)  # nothing of ours, 30 minutes missing
    assert out.with_suffix(".svg").stat().st_size > 0 and out.with_suffix(".png").stat().st_size > 0


def test_options_of_the_trainer(equal_minutes):
    import mace_training

    given = Namespace(size="32x0e+32x1o", batch=5, rate=0.01, e0s="isolated", dtype="float32")
    found = mace_training.settings(given, 60, {1: -13.5})
    for option in ("--num_channels=32", "--max_L=1", "--E0s={1: -13.5}", "--max_num_epochs=60", "--start_swa=48", "--scheduler_patience=2"):
        assert option in found


@pytest.mark.parametrize("option, value", [("size", "7x0e"), ("e0s", "none"), ("dtype", "half")])
def test_unknown_setting_is_named(equal_minutes, option, value):
    import mace_training

    given = Namespace(**{"size": "64x0e", "e0s": "average", "dtype": "float32", option: value})
    with pytest.raises(SystemExit, match=f"--{option} {value} is not known: give one of"):
        mace_training.check(given)
