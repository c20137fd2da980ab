"""Labels by a Dask cluster: the same as by processes."""

import os

import numpy as np
import pytest
from ase.io import read
from test_file import ODD, frames

from race_calc.label.file import label_frames
from race_calc.label.frame import label
from race_calc.label.methods import Method

distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two processes that find the calculators of the tests."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([os.path.dirname(__file__), *([before] if before else [])])
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "local_directory": tmp_path_factory.mktemp("dask")}
    try:
        with distributed.LocalCluster(**options) as made:
            yield made.scheduler_address
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


@pytest.mark.nightly
def test_labels_are_those_of_processes(cluster, tmp_path):
    given, reports = frames(6, f1=-1, f4=-3), []
    found = label_frames(given, tmp_path / "out.xyz", ODD, 1, lambda *numbers: reports.append(numbers), cluster)
    assert (found.count, found.failed) == (4, 2) and reports[-1] == (6, 2, 6)
    label_frames(given, tmp_path / "here.xyz", ODD, 2)
    for one, other in zip(read(found.path, ":"), read(tmp_path / "here.xyz", ":"), strict=True):
        assert one.info == other.info and one.get_potential_energy() == other.get_potential_energy()
        np.testing.assert_array_equal(one.get_forces(), other.get_forces())
    assert {atoms.info["number"]: atoms.info["label_error"] for atoms in read(found.apart, ":")}[1] == "RuntimeError: did not converge"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here-failed.xyz", "here.xyz", "out-failed.xyz", "out.xyz"]


def test_work_that_was_stopped_goes_on_there(cluster, tmp_path):
    def stop(done: int, failed: int, of_all: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_frames(frames(5), tmp_path / "out.xyz", ODD, 1, stop, cluster)
    reports = []
    label_frames(frames(5), tmp_path / "out.xyz", ODD, 1, lambda *numbers: reports.append(numbers), cluster)
    assert reports[0] == (2, 0, 5) and reports[-1] == (5, 0, 5)


@pytest.mark.nightly
def test_threads_of_a_worker_take_turns(tmp_path, monkeypatch):
    """They share a calculator, which is in the middle of another structure otherwise."""
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))
    options = {"n_workers": 1, "threads_per_worker": 4, "dashboard_address": None, "local_directory": tmp_path / "dask"}
    with distributed.LocalCluster(**options) as made:
        found = label_frames(frames(8), tmp_path / "out.xyz", Method("own_methods:slow"), 1, cluster=made.scheduler_address)
    assert found.failed == 0
    for one, atoms in zip(read(found.path, ":"), frames(8), strict=True):
        assert one.get_potential_energy() == label(atoms, tmp_path, Method("own_methods:emt")).get_potential_energy()


def test_nobody_answers(tmp_path):
    with pytest.raises(ValueError, match="no Dask scheduler answers at"):
        label_frames(frames(1), tmp_path / "out.xyz", ODD, 1, cluster="nonsense://nowhere")
