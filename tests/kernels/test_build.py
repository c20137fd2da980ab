"""Building the kernels: cached, atomic, and clear words where it cannot be done."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "from race_calc.model.kernels.build import library; library('float'); print('built')"


def build(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess:
    settings = os.environ | {"XDG_CACHE_HOME": str(tmp_path)} | environment
    return subprocess.run([sys.executable, "-c", PROGRAM], env=settings, capture_output=True, text=True)


def has_compiler() -> bool:
    import shutil

    return any(shutil.which(name) for name in ("cc", "gcc", "clang"))


@pytest.mark.skipif(not has_compiler(), reason="no C compiler")
def test_built_once_and_again_where_it_is_damaged(tmp_path):
    assert build(tmp_path).stdout.strip() == "built"
    (made,) = (tmp_path / "race_calc").iterdir()
    before = made.stat().st_mtime_ns
    assert build(tmp_path).stdout.strip() == "built"
    assert [made] == list((tmp_path / "race_calc").iterdir()) and made.stat().st_mtime_ns == before
    made.write_bytes(b"")
    assert build(tmp_path).stdout.strip() == "built" and made.stat().st_size > 10_000


def test_no_compiler(tmp_path):
    done = build(tmp_path, PATH=str(tmp_path), CC="nothing")
    assert "NoCompiler" in done.stderr and "install gcc or clang" in done.stderr


@pytest.mark.skipif(not has_compiler(), reason="no C compiler")
def test_a_compiler_that_fails(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no such thing >&2\nexit 1\n")
    broken.chmod(0o755)
    done = build(tmp_path, CC=str(broken))
    assert "could not compile the kernels" in done.stderr and "no such thing" in done.stderr
    assert list((tmp_path / "race_calc").iterdir()) == []


@pytest.mark.skipif(not has_compiler(), reason="no C compiler")
def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "race_calc").write_text("a file, not a folder")
    done = build(tmp_path)
    assert "NoCompiler" in done.stderr and "XDG_CACHE_HOME" in done.stderr
