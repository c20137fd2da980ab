"""Copies of the repository in which tests run, each run a process of its own that starts with the slow imports done."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = (".git", ".venv*", "__pycache__", ".mutants", "runs", "_build", ".hypothesis", ".pytest_cache", "*.egg-info", "demo_output")


SLOW_IMPORTS = (
    "ase.build", "ase.calculators.emt", "ase.io", "ase.md.langevin", "ase.optimize", "hypothesis", "matplotlib.backends.backend_agg",
    "matplotlib.figure", "opt_einsum_fx", "pydantic", "pytest_cov.plugin", "rich.console", "safetensors.torch", "scipy.optimize",
    "scipy.spatial", "scipy.special", "scipy.stats", "sklearn.metrics", "sympy", "torch", "torch._dynamo", "typer",
    "xdist.plugin", "yaml",
)  # fmt: skip


class Recorder:
    """What pytest says: the seconds of every test that passes, and the first that fails."""

    def __init__(self):
        self.seconds, self.failed = {}, []

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.append(report.nodeid)
        elif not report.skipped:
            self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_collectreport(self, report):
        if report.failed:
            self.failed.append(report.nodeid)


def preload() -> None:
    """Import what every run needs; not the package itself, of which each tree has its own, nor e3nn.o3, whose import it watches."""
    for name in SLOW_IMPORTS:
        import_module(name)
    import torch

    torch.set_num_threads(1)


def fresh_tree(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
    return place


def run_tests(tree: Path, arguments: Sequence[str], limit: float) -> dict:
    """pytest in `tree`: its exit status ("timeout", "crash"), the seconds of the tests, those that failed. limit: seconds."""
    said, log = tree.parent / f"{tree.name}.json", tree.parent / f"{tree.name}.log"
    said.unlink(missing_ok=True)
    started, child = time.monotonic(), os.fork()
    if not child:
        _child(tree, arguments, said, log)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - started > limit:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"exit": "timeout", "seconds": {}, "failed": []}
        time.sleep(0.05)
    return json.loads(said.read_text()) if said.exists() else {"exit": f"crash {status}", "seconds": {}, "failed": []}


def _child(tree: Path, arguments: Sequence[str], said: Path, log: Path) -> None:
    """Never returns."""
    try:
        os.setsid()
        with open(log, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        os.environ |= {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        recorder = Recorder()
        status = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments], plugins=[recorder])
        said.write_text(json.dumps({"exit": int(status), "seconds": recorder.seconds, "failed": recorder.failed}))
    finally:
        sys.stdout.flush()
        os._exit(0)
