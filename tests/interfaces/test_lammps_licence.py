"""interfaces/lammps is under the GPL and is not in the package."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "interfaces" / "lammps"


def test_every_source_says_its_licence():
    assert "GNU GENERAL PUBLIC LICENSE" in (PLUGIN / "LICENSE").read_text()
    sources = [path for path in PLUGIN.rglob("*") if path.suffix in (".cpp", ".h", ".lmp") or path.name == "CMakeLists.txt"]
    assert len(sources) > 10
    for path in sources:
        assert "SPDX-License-Identifier: GPL-2.0-only" in path.read_text(), path


def test_a_source_distribution_has_nothing_of_it(tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "race_calc", copy / "race_calc", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copytree(ROOT / "interfaces", copy / "interfaces")
    command = [sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", str(tmp_path)]
    subprocess.run(command, cwd=copy, check=True, capture_output=True, env=os.environ | {"PYTHONWARNINGS": "ignore"})
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = opened.getnames()
    assert any(name.endswith("race_calc/model/kernels/race.h") for name in names)
    assert not [name for name in names if "interfaces/lammps" in name and "race_calc/interfaces" not in name]
