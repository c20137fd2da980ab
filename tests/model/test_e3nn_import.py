"""e3nn comes in through one door, which changes what the process may unpickle for the time of the import only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PACKAGE = Path(__file__).resolve().parents[2] / "race_calc"
DOOR = PACKAGE / "model" / "e3nn_import.py"
FAKE = """
import os, torch
constants = torch.load(os.path.join(os.path.dirname(__file__), "constants.pt"))
"""
REFUSES = pytest.mark.skipif(torch.__version__ < (2, 6), reason=f"torch {torch.__version__}: torch.load refuses no slices before 2.6")


@pytest.fixture
def old_e3nn(tmp_path) -> Path:
    """A folder with an e3nn that does at import what 0.4.4 does: it reads constants with slices by `torch.load`."""
    folder = tmp_path / "site" / "e3nn"
    (folder / "o3").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "o3" / "__init__.py").write_text(FAKE)
    torch.save([torch.ones(2), {(1, 1, 1): slice(0, 2)}], folder / "o3" / "constants.pt")
    return folder.parent


def run(folder: Path, program: str) -> subprocess.CompletedProcess:
    """A new process in which `folder` comes before the installed packages, without settings of its own for torch.load."""
    start = f"import sys; sys.path.insert(0, {str(folder)!r}); import os; os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)\n"
    return subprocess.run([sys.executable, "-c", start + program], capture_output=True, text=True, cwd=PACKAGE.parent)


def outcome(folder: Path, program: str) -> list[str]:
    done = run(folder, program)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_no_other_file_imports_e3nn():
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert path == DOOR or "e3nn" not in {name.split(".")[0] for name in names}, path


@pytest.mark.nightly
@pytest.mark.slow
@REFUSES
def test_an_old_e3nn_is_imported_and_slices_are_refused_again(old_e3nn):
    assert "Unsupported global" in run(old_e3nn, "from e3nn import o3").stderr
    program = """
from race_calc.model.e3nn_import import o3
import torch
print(o3.constants[1][1, 1, 1].stop, slice in torch.serialization.get_safe_globals())
try:
    torch.load(o3.__file__.replace("__init__.py", "constants.pt"))
except Exception as error:
    print(type(error).__name__)
"""
    assert outcome(old_e3nn, program) == ["2", "False", "UnpicklingError"]


@REFUSES
def test_what_the_user_allowed_stays_allowed(old_e3nn):
    program = """
import torch
torch.serialization.add_safe_globals([slice])
from race_calc.model.e3nn_import import o3
print(slice in torch.serialization.get_safe_globals())
"""
    assert outcome(old_e3nn, program) == ["True"]


@REFUSES
@pytest.mark.nightly
def test_nothing_is_done_where_e3nn_is_there_already(old_e3nn):
    program = """
import torch
with torch.serialization.safe_globals([slice]):
    from e3nn import o3 as theirs
def refuse(allowed):
    raise AssertionError(allowed)
torch.serialization.safe_globals = refuse
from race_calc.model.e3nn_import import o3
print(o3 is theirs)
"""
    assert outcome(old_e3nn, program) == ["True"]
