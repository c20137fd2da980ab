"""Imports point one way (docs/architecture.md), and what should need only NumPy does."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from race_calc.ood.scores import CRITERIA
from race_calc.prediction import QUANTITIES

PACKAGE = Path(__file__).parent.parent / "race_calc"
FORBIDDEN = {
    "graph.py": ("model", "data", "train", "posterior", "md", "cli", "calculator"),
    "neighbours.py": ("graph", "model", "data", "train", "posterior", "md", "cli", "calculator"),
    "skin.py": ("graph", "model", "data", "train", "posterior", "md", "cli", "calculator"),
    "repulsion.py": ("model", "data", "train", "posterior", "md", "cli", "calculator"),
    "model": ("data", "train", "posterior", "calibrate", "ood", "md", "report", "cli", "calculator", "checkpoint"),
    "kernels": ("data", "train", "posterior", "calibrate", "ood", "md", "report", "cli", "calculator", "checkpoint"),
    "data": ("model", "train", "posterior", "calibrate", "ood", "md", "report", "cli", "calculator"),
    "prediction.py": ("graph", "model", "data", "train", "posterior", "calibrate", "ood", "md", "report", "cli"),
    "posterior": ("train", "calibrate", "ood", "md", "report", "cli", "calculator"),
    "ood": ("graph", "model", "data", "train", "posterior", "md", "report", "cli", "calculator"),
    "calibrate": ("graph", "model", "data", "train", "posterior", "md", "report", "cli", "calculator"),
    "train": ("md", "report", "cli", "calculator"),
    "md": ("graph", "model", "data", "train", "posterior", "interfaces", "cli"),
    "uncertainty": ("graph", "model", "data", "train", "posterior", "md", "report", "interfaces", "evaluate", "cli", "calculator"),
    "interfaces": ("train", "md", "report", "evaluate", "cli", "calculator"),
    "evaluate.py": ("model", "train", "posterior", "md", "report", "interfaces", "cli", "calculator", "checkpoint"),
    "assessment.py": ("model", "train", "posterior", "report", "interfaces", "cli", "calculator", "checkpoint"),
    "recalibrate.py": ("model", "train", "posterior", "report", "interfaces", "cli", "calculator", "checkpoint"),
    "report": ("graph", "model", "data", "train", "posterior", "md", "cli", "calculator"),
    "calculator.py": ("train", "md", "report", "cli"),
}
NUMPY_ONLY = [
    "prediction", "posterior.aggregate", "posterior.bald", "ood.scores", "ood.thresholds", "ood.detection",
    "calibrate.metrics", "calibrate.bootstrap", "calibrate.ranking", "calibrate.recalibration", "calibrate.conformal",
    "calibrate.score", "calibrate.residuals", "calibrate.calibration", "calibrate.storage", "calibrate.cross_fit",
    "calibrate.reliability", "calibrate.groups", "md.monitor", "uncertainty.predictor",
]
NO_TORCH = [  # what serves a potential of others; and the whole of these folders
    "evaluate", "assessment", "recalibrate", "graph", "interfaces.base", "cli.evaluate", "cli.evaluate_json", "cli.evaluate_report",
    "cli.evaluate_figures", "cli.calibrate_report", "cli.demo_report",
]
NO_TORCH_ROOMS = ("data", "ood", "calibrate", "md", "report", "uncertainty")


def imported(path: Path) -> set[str]:
    """First part, below race_calc, of everything that a file imports from the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[1] for name in names if name.startswith("race_calc.")}
    return found


def literals(path: Path) -> dict[str, int]:
    """Every string in the code of a file but docstrings → the line it was last seen on."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    return {node.value: node.lineno for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_point_one_way(room):
    target = PACKAGE / room
    for path in [target] if target.is_file() else sorted(target.rglob("*.py")):
        assert not imported(path) & set(FORBIDDEN[room]), path.relative_to(PACKAGE)


def test_decisions_and_statistics_need_neither_torch_nor_ase():
    names = [f"race_calc.{name}" for name in NUMPY_ONLY]
    program = f"import importlib, sys; [importlib.import_module(n) for n in {names}]; print({{'torch', 'ase'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_potential_of_others_needs_no_torch():
    files = [path for room in NO_TORCH_ROOMS for path in (PACKAGE / room).glob("*.py")]
    names = NO_TORCH + [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in files]
    program = f"import importlib, sys; [importlib.import_module('race_calc.' + n) for n in {names}]; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_criteria_are_named_in_their_rows_only():
    """Besides the rule of the monitor's default, and the array of a frame that has the name of a criterion."""
    names = set(CRITERIA) - set(QUANTITIES)
    allowed = {"ood/scores.py", "md/monitor.py", "md/record.py"}
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
