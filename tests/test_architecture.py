"""The rooms: who may import whom, followed to the end; what needs no torch; names that live in one place."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from race_calc.uncertainty.prediction import QUANTITIES
from race_calc.uncertainty.scores import CRITERIA

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "race_calc"
DATA, UNCERTAINTY = {"data"}, {"data", "uncertainty"}
LABELS = UNCERTAINTY | {"label"}
POSTERIOR = LABELS | {"model", "posterior"}
MAY_IMPORT = {  # room → rooms that its files may reach, directly or through others; its own is always one of them
    "data": set(),
    "label": DATA,
    "uncertainty": DATA,
    "model": LABELS,
    "posterior": LABELS | {"model"},
    "evaluate": UNCERTAINTY,
    "md": UNCERTAINTY,
    "observables": UNCERTAINTY,
    "interfaces": POSTERIOR,
    "train": POSTERIOR | {"evaluate"},
    "learning": POSTERIOR | {"evaluate", "md", "interfaces", "train"},
    "report": POSTERIOR | {"evaluate", "md"},
    "cli": POSTERIOR | {"evaluate", "observables", "md", "interfaces", "train", "learning", "report"},
}
NO_TORCH = ("data", "label", "uncertainty", "evaluate", "md", "observables")


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def imports(module: str) -> frozenset[str]:
    """Modules of the package that a file imports, wherever in the file it does."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in MODULES else node.module for alias in node.names}
    return frozenset(name for name in found if name in MODULES) - {module, "race_calc"}


def reached(module: str) -> set[str]:
    """All modules that importing this one may bring in."""
    found, todo = set(), [module]
    while todo:
        for name in imports(todo.pop()) - found:
            found.add(name)
            todo.append(name)
    return found


def room(module: str) -> str:
    return module.split(".")[1]


ROOMED = [name for name in MODULES if name.count(".") and not name.endswith("__main__")]


def test_no_room_is_forgotten():
    entries = {path.name for path in PACKAGE.iterdir()} - {"__init__.py", "__main__.py", "py.typed", "__pycache__"}
    assert entries == set(MAY_IMPORT)


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_imports_point_one_way(name):
    for module in filter(lambda m: room(m) == name, ROOMED):
        wrong = {other for other in reached(module) if room(other) not in MAY_IMPORT[name] | {name}}
        assert not wrong, f"{module} reaches {sorted(wrong)}"


def test_no_file_imports_itself_by_a_detour():
    assert [module for module in ROOMED if module in reached(module)] == []


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_rooms_without_torch():
    names = [name for name in ROOMED if room(name) in NO_TORCH]
    assert run(f"import importlib, sys; [importlib.import_module(n) for n in {names}]; print('torch' in sys.modules)") == "False"


def test_decisions_and_statistics_need_numpy_only():
    names = [name for name in ROOMED if room(name) == "uncertainty"]
    program = f"import importlib, sys; [importlib.import_module(n) for n in {names}]; print({{'torch', 'ase'}} & set(sys.modules))"
    assert run(program) == "set()"


def literals(path: Path) -> dict[str, int]:
    """Every string in the code of a file but docstrings → the line it was last seen on."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    return {
        node.value: node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    }


def test_criteria_are_named_in_their_rows_only():
    """Besides the rule of the monitor's default, and the array of a frame that has the name of a criterion."""
    names = set(CRITERIA) - set(QUANTITIES)
    allowed = {"uncertainty/scores.py", "uncertainty/decisions.py", "md/record.py"}
    for path in PACKAGE.rglob("*.py"):
        texts = {node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)}
        assert path.relative_to(PACKAGE).as_posix() in allowed or not names & texts, path


def test_only_posterior_names_a_posterior():
    """What a method does is told by its object (`race_calc.posterior.base`), so its name stands in its own room only."""
    from race_calc.posterior.base import BUILT_IN

    for path in sorted(PACKAGE.rglob("*.py")):
        if (PACKAGE / "posterior") not in path.parents:
            named = {name: line for name, line in literals(path).items() if name in BUILT_IN}
            assert not named, f"{path.relative_to(PACKAGE)}: {named}"
    assert set(BUILT_IN) & set(literals(PACKAGE / "posterior" / "base.py"))  # the test finds what is there
