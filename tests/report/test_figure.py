"""The figure of a run, from synthetic arrays."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from race_calc.report.figure import RunTrace, ScoreTrace, run_figure, save_figure
from race_calc.report.molecule import Molecule, bonds, principal_view
from race_calc.uncertainty.scores import SCORES


def score(values, threshold=1.0, action="flag", name="bald_forces_max"):
    return ScoreTrace(SCORES[name].label, SCORES[name].unit, values=values, threshold=threshold, acted=values > threshold, action=action)


@pytest.fixture
def trace():
    time = np.linspace(0, 100, 51)
    sigma = score(np.linspace(0.1, 0.3, 51), 0.28, name="forces_uncertainty_max")
    bald = score(np.geomspace(1e-3, 2.0, 51), 1.9, action="halt")
    target = np.linspace(300, 800, 51)
    phases = [(0.0, 40.0, "300 K"), (40.0, 100.0, "heating")]
    return RunTrace(time, target + 20 * np.sin(time), target, [sigma, bald], phases, halt=100.0)


@pytest.fixture
def ethanol():
    positions = [[-1.3, -0.2, 0], [0, 0.5, 0], [1.2, -0.3, 0], [-1.3, -1.3, 0.1], [-2.2, 0.4, 0], [2.0, 0.3, 0]]
    radii = np.array([0.76, 0.76, 0.66, 0.31, 0.31, 0.31])
    return Molecule(list("CCOHHH"), np.array(positions), radii, np.linspace(0.1, 0.4, 6), "σ (eV/Å)", ringed=2)


def axes(figure):
    return {ax.get_ylabel().replace("\n", " "): ax for ax in figure.axes}


def test_axes_name_their_units(trace, ethanol):
    figure = run_figure(trace, ethanol, "Halt: step 50")
    found = axes(figure)
    assert {"temperature (K)", "largest force σ (eV/Å)", "largest force BALD (nat)"} <= set(found)
    assert "time (fs)" in {ax.get_xlabel() for ax in figure.axes}
    assert "σ (eV/Å)" in {ax.get_xlabel() for ax in figure.axes}  # the colour bar


def test_log_axis_only_where_values_span_decades(trace):
    found = axes(run_figure(trace))
    assert found["largest force BALD (nat)"].get_yscale() == "log"
    assert found["largest force σ (eV/Å)"].get_yscale() == "linear"


def test_thresholds_marks_and_halt_are_drawn(trace):
    found = axes(run_figure(trace))
    for name, threshold, label in (("largest force σ (eV/Å)", 0.28, "flagged frame"), ("largest force BALD (nat)", 1.9, "halt")):
        lines = found[name].get_lines()
        assert any(np.all(np.asarray(line.get_ydata()) == threshold) for line in lines)
        marked = next(line for line in lines if line.get_label() == label)
        assert np.all(marked.get_ydata() > threshold)
    assert {"300 K", "heating", "halt"} <= {text.get_text() for text in found["temperature (K)"].texts}


def test_heavy_atoms_are_named_and_one_is_ringed(trace, ethanol):
    panel = next(ax for ax in run_figure(trace, ethanol).axes if ax.patches and ax.get_lines()[0].get_ydata().size != 51)
    assert sorted(text.get_text() for text in panel.texts) == ["C", "C", "O"]
    assert len(panel.patches) == len(ethanol.symbols) + 1


def test_saved_files_are_not_empty(trace, ethanol, tmp_path):
    paths = save_figure(run_figure(trace, ethanol), tmp_path / "monitor")
    assert [path.name for path in paths] == ["monitor.png", "monitor.pdf"]
    assert all(path.stat().st_size > 5000 for path in paths)
    assert paths[0].read_bytes().startswith(b"\x89PNG") and paths[1].read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_values_that_no_axis_can_show(trace, ethanol, tmp_path, value):
    flat = score(np.full(51, value), 0.5)
    molecule = replace(ethanol, values=np.full(6, value))
    save_figure(run_figure(replace(trace, scores=[flat], halt=None), molecule), tmp_path / "flat")


def test_a_single_check_and_a_single_atom(tmp_path):
    one = np.array([1.0])
    trace = RunTrace(0 * one, 300 * one, 300 * one, [score(2 * one, action="halt")], [(0.0, 0.0, "300 K")], halt=0.0)
    atom = Molecule(["He"], np.zeros((1, 3)), np.array([0.28]), one, "σ (eV/Å)", ringed=0)
    save_figure(run_figure(trace, atom), tmp_path / "one")


def test_bonds_and_view_do_not_depend_on_the_orientation(ethanol):
    assert bonds(ethanol.positions, ethanol.radii).tolist() == [[0, 1], [0, 3], [0, 4], [1, 2], [2, 5]]
    turned = ethanol.positions @ np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0].T + 3.0
    view = principal_view(turned)
    np.testing.assert_allclose(bonds(view, ethanol.radii), bonds(ethanol.positions, ethanol.radii))
    np.testing.assert_allclose(np.abs(view), np.abs(principal_view(ethanol.positions)), atol=1e-12)
    assert np.ptp(view[:, 1]) > np.ptp(view[:, 0]) > np.ptp(view[:, 2])  # long axis upwards


def test_needs_neither_torch_nor_ase():
    program = "import sys, race_calc.report.figure; print({'torch', 'ase'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
