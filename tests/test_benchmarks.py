"""The benchmark scripts run; what they measure is not judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SMALL = {
    "outputs.py": ["--rounds", "1"],
    "tables.py": ["--frames", "1", "--processes", "1"],
    "float32.py": ["--frames", "1"],
    "member_axis.py": ["--rounds", "1"],
    "size.py": ["--rounds", "1", "--members", "1", "--largest", "216"],
    "nve.py": ["--picoseconds", "0.03", "--equilibration-steps", "1"],
    "gpu.py": ["--device", "cpu", "--rounds", "1", "--sizes", "27", "--members", "1"],
}


@pytest.mark.slow
@pytest.mark.parametrize("script", SMALL)
def test_runs(script, tmp_path):
    command = [sys.executable, str(BENCHMARKS / script), *SMALL[script], "--json", str(tmp_path / "found.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "found.json").read_text())) > 2
