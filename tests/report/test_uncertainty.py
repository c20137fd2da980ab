"""Figures of errors, calibration and intervals: axes, units, and awkward numbers."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from scipy.stats import halfnorm

from race_calc.report.figure import save_figure
from race_calc.report.uncertainty import COLOURS, POINTS, Bars, Cloud, calibration_figure, error_figure, interval_figure

RNG = np.random.default_rng(0)


def texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_errors_against_sigma():
    known = Cloud(RNG.normal(size=20_000), np.exp(RNG.normal(size=20_000)))
    hot = Cloud(3 * RNG.normal(size=50), np.exp(RNG.normal(size=50)))
    figure = error_figure({"energies": ("meV", {"known": known, "hot": hot}), "forces": ("meV/Å", {"known": hot, "hot": known})})
    for ax, unit in zip(figure.axes, ("meV", "meV/Å"), strict=True):
        assert ax.get_xlabel() == f"predicted σ ({unit})" and ax.get_ylabel() == f"|error| ({unit})"
        assert ax.get_xscale() == ax.get_yscale() == "log"
        points = [c for c in ax.collections if c.get_offsets().shape[0] > 2]
        assert {to_hex(c.get_facecolor()[0][:3]).upper() for c in points} == set(COLOURS[:2])
        assert max(len(c.get_offsets()) for c in points) == POINTS
    assert texts(figure) == ["known", "hot", "70 % lie here if σ is right", "90 % lie here if σ is right", "99 % lie here if σ is right"]


def test_the_bands_hold_the_stated_shares_of_a_right_sigma():
    """Around 0, 5 and 15 % of |error| / σ are below the bands, as many above: 99, 90 and 70 % inside."""
    figure = error_figure({"energies": ("meV", {"known": Cloud(RNG.normal(size=50), np.exp(RNG.normal(size=50)))})})
    bands = [c for c in figure.axes[0].collections if len(c.get_paths()[0].vertices) < 20 and not len(c.get_offsets()) > 2]
    assert len(bands) == 3
    for band, tail in zip(bands, (0.005, 0.05, 0.15), strict=True):
        x, y = band.get_paths()[0].vertices.T
        assert min(y / x) == pytest.approx(halfnorm.ppf(tail)) and max(y / x) == pytest.approx(halfnorm.ppf(1 - tail))


def test_errors_that_cannot_be_drawn_are_left_out(tmp_path):
    cloud = Cloud(np.array([0.0, np.nan, 1.0, np.inf]), np.array([1.0, 1.0, 0.0, 1.0]))
    paths = save_figure(error_figure({"energies": ("meV", {"broken": cloud})}), tmp_path / "broken")
    assert all(path.stat().st_size > 0 for path in paths)


@pytest.mark.parametrize("calibrated", [True, False])
def test_calibration_curves(calibrated):
    levels = RNG.uniform(size=400)
    figure = calibration_figure({"energies": {"known": (levels**2, levels if calibrated else None)}})
    lines = figure.axes[0].get_lines()
    assert len(lines) == 2 + calibrated
    observed = lines[-1].get_ydata()
    assert observed[49] == pytest.approx(np.mean((levels if calibrated else levels**2) <= 0.5))
    assert ("before calibration" in texts(figure)) == ("after" in texts(figure)) == calibrated


def test_intervals_mark_what_is_outside():
    d = np.array([0.5, -3.0, 0.0, 2.0])
    bars = Bars(d, np.array([-1.0, -1.0, -np.inf, -1.0]), np.full(4, 1.0))
    figure = interval_figure({"known": [("before", bars), ("after", bars)], "hot": [("before", bars)]}, "meV", "90 %")
    ax = figure.axes[0]
    inside, outside = ax.get_lines()[:2]
    assert list(inside.get_ydata()) == [0.5, 0.0] and list(outside.get_ydata()) == [-3.0, 2.0]
    assert np.isfinite(ax.get_ylim()).all() and "(meV)" in ax.get_ylabel() and ax.get_title() == "known, before"


def test_ten_of_many_structures():
    d = np.arange(101.0)
    figure = interval_figure({"known": [("before", Bars(d, d - 1, d + 1))]}, "meV", "90 %")
    assert list(figure.axes[0].get_lines()[0].get_ydata()) == list(np.linspace(0, 100, 10).astype(int))
