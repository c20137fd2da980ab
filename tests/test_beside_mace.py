"""In a process where MACE was imported, models load as ever: nothing is unpickled, whatever MACE switched off.

`import mace` (0.3.16) sets TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1, with which `torch.load` executes what a file says. These tests
set it, so that they need no MACE.
"""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from race_calc.posterior.checkpoint import CheckpointError, load_checkpoint
from race_calc.posterior.manifest import write_manifest

SHIPPED = sorted((Path(__file__).resolve().parents[1] / "models").iterdir())
UNSAFE = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
# e3nn reads constants of its own while it is imported; from then on every unpickler is watched, torch's and Python's,
# in C and in Python. The audit event comes with every class or function that a pickle names.
PROGRAM = """
import os, pickle, sys
import torch
assert os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"
import race_calc.model.e3nn_import

found = []
sys.addaudithook(lambda event, given: found.append(f"{event} {given}") if event == "pickle.find_class" else None)
def watched(name):
    def refuse(*given, **options):
        found.append(name)
        raise AssertionError(name)
    return refuse
torch.load = torch.serialization.load = watched("torch.load")
pickle.load, pickle.loads = watched("pickle.load"), watched("pickle.loads")

from ase import Atoms
from race_calc import RACECalculator
for model in sys.argv[1:]:
    calculator = RACECalculator(model, device="cpu")
    atoms = Atoms(calculator.elements[0] + "2", positions=[[0, 0, 0], [0, 0, 2.2]], cell=[9, 9, 9], pbc=True)
    atoms.calc = calculator
    atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
print(found)
"""


@pytest.mark.nightly
def test_loading_and_using_a_shipped_model_unpickles_nothing():
    done = subprocess.run([sys.executable, "-c", PROGRAM, *map(str, SHIPPED)], capture_output=True, text=True, env=os.environ | UNSAFE)
    assert len(SHIPPED) >= 3
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_setting_is_the_one_that_torch_obeys(tmp_path, monkeypatch):
    """Else the tests here would test nothing."""
    for name, value in UNSAFE.items():
        monkeypatch.setenv(name, value)
    trap = tmp_path / "executed"
    torch.save(_Touch(trap), tmp_path / "file")
    torch.load(tmp_path / "file")
    assert trap.exists()


@pytest.mark.parametrize("dump", ["pickle", "torch"])
def test_a_pickle_in_place_of_the_weights_is_not_executed(tiny_model, tmp_path, monkeypatch, dump):
    for name, value in UNSAFE.items():
        monkeypatch.setenv(name, value)
    model, trap = shutil.copytree(tiny_model, tmp_path / "model"), tmp_path / "executed"
    if dump == "torch":
        torch.save(_Touch(trap), model / "weights.safetensors")
    else:
        (model / "weights.safetensors").write_bytes(pickle.dumps(_Touch(trap)))
    write_manifest(model)
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        load_checkpoint(model)
    assert not trap.exists()


class _Touch:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)
