"""The command as a whole: version, help without torch, `python -m`, completion."""

import re
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

import race_calc
from race_calc.cli import app
from race_calc.cli.posterior import _post_hoc_methods

ROOT = Path(__file__).parents[2]


def test_version():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0 and result.output.startswith(f"race_calc {race_calc.__version__}, torch ")


def test_help_needs_no_torch_and_python_m_is_the_command():
    program = (
        "import runpy, sys\n"
        "sys.argv = ['race-calc', '--help']\n"
        "try:\n    runpy.run_module('race_calc', run_name='__main__')\n"
        "finally:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and "evaluate" in done.stdout and "--install-completion" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_methods_are_completed_from_the_registry():
    assert _post_hoc_methods() == ["laplace", "llpr"]


def test_the_version_is_that_of_the_release_or_on_the_way_to_it():
    """setup.py, CITATION.cff and CHANGELOG.md name one release."""
    coming = re.search(r'^NEXT = "(.+?)"', (ROOT / "setup.py").read_text(), re.MULTILINE)[1]
    assert re.fullmatch(rf"{re.escape(coming)}(\.dev\d+(\+.*)?)?", race_calc.__version__)
    assert f"version: {coming}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == coming
