"""The snippets of docs/engines.md for atomate2 and phonopy: run as they stand there."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def snippet(name):
    """The block of the page that imports this package."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "engines.md").read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if f"from {name}" in block]
    return found


@pytest.mark.parametrize("name", ["atomate2", "phonopy"])
def test_snippet(name, monkeypatch, tmp_path):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"no {name}: pip install {name}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    found: dict = {}
    exec(compile(snippet(name), f"docs/engines.md, {name}", "exec"), found)
    if name == "atomate2":
        assert 5.46 < found["relaxed"].structure.lattice.a < 5.50  # Å
        assert found["relaxed"].output.energy_per_atom < -5.42
    else:
        frequencies = found["phonon"].mesh.frequencies
        assert 13.0 < frequencies.max() < 17.0 and frequencies.min() > -0.2  # THz; of silicon 15.5
