"""The benchmark scripts run; what they measure is not judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from race_calc.model.kernels.build import problem

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SMALL = {
    "outputs.py": ["--rounds", "1"],
    "tables.py": ["--frames", "1", "--processes", "1"],
    "float32.py": ["--frames", "1"],
    "member_axis.py": ["--rounds", "1"],
    "llpr_draws.py": ["--frames", "1", "--members", "16", "--seeds", "1", "--rounds", "1"],
    "size.py": ["--rounds", "1", "--members", "1", "--largest", "64"],
    "nve.py": ["--picoseconds", "0.03", "--equilibration-steps", "1"],
    "conformal_coverage.py": ["--times", "3"],
    "gpu.py": ["--device", "cpu", "--rounds", "1", "--sizes", "27", "--members", "1"],
}
NEED_KERNELS = ("tables.py", "member_axis.py")  # what they measure is about them


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("script", SMALL)
def test_runs(script, tmp_path):
    if script in NEED_KERNELS and problem():
        pytest.skip(problem())
    command = [sys.executable, str(BENCHMARKS / script), *SMALL[script], "--json", str(tmp_path / "found.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "found.json").read_text())) > 2
