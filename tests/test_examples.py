"""Every example runs, with few steps."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
EXPECTED = {"committee": ["argon.jsonl"], "monitored_md": ["md.jsonl", "md.traj"], "relax_and_flag": ["relax.log", "relax_flagged.xyz"]}
EXPECTED |= {"silicon": ["silicon_flagged.xyz"], "excited_state": ["excited.jsonl"]}
MODELS = {"committee": None, "silicon": "silicon", "excited_state": "fulvene"}  # the others: 3bpa-de
STEPS = {"silicon": []}  # the others take a number


NIGHTLY = [pytest.mark.slow, pytest.mark.nightly]  # .ci/run has them too
EACH = [script if script.stem == "committee" else pytest.param(script, marks=NIGHTLY) for script in EXAMPLES]


@pytest.mark.parametrize("script", EACH, ids=lambda path: path.stem)
def test_example_runs(script, tmp_path):
    name = MODELS.get(script.stem, "3bpa-de")
    model = [] if name is None else [ROOT / "models" / name]
    if model and not (model[0] / "weights.safetensors").is_file():
        pytest.skip(f"models/{name} holds no trained weights")
    command = [sys.executable, str(script), *map(str, model), str(tmp_path), *STEPS.get(script.stem, ["8"])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert all((tmp_path / name).stat().st_size > 0 for name in EXPECTED[script.stem])


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 40
