"""Every example runs, with few steps."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
EXPECTED = {"committee": ["argon.jsonl"], "monitored_md": ["md.jsonl", "md.traj"], "relax_and_flag": ["relax.log", "relax_flagged.xyz"]}
needs_model = pytest.mark.skipif(
    not (ROOT / "models" / "3bpa-de" / "weights.safetensors").is_file(), reason="models/3bpa-de holds no trained weights"
)


@needs_model
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(script, tmp_path):
    model = [] if script.stem == "committee" else [str(ROOT / "models" / "3bpa-de")]
    command = [sys.executable, str(script), *model, str(tmp_path), "8"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert all((tmp_path / name).stat().st_size > 0 for name in EXPECTED[script.stem])


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 40
