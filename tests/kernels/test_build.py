"""The library of kernels: built by setup.py, never loaded where it is damaged or of other source, and left out without harm."""

import ctypes
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from race_calc.model.kernels import build, messages

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
needs_kernels = pytest.mark.skipif(build.problem() is not None, reason=str(build.problem()))
CACHED = (build.problem, build.library, build.kernel)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A copy of the folder of the kernels, in an installation of its own, that `build` takes for its own."""
    folder = tmp_path / "site-packages" / "race_calc" / "model" / "kernels"
    shutil.copytree(build.FOLDER, folder)
    monkeypatch.setattr(build, "FOLDER", folder)
    monkeypatch.setattr(build, "LIBRARY", folder / build.LIBRARY.name)
    for function in CACHED:
        function.cache_clear()
    yield folder
    for function in CACHED:
        function.cache_clear()


@needs_kernels
def test_the_library_that_lies_beside_the_package_is_used():
    assert messages.why_not(CPU) is None and messages.kernels_usable(CPU)
    assert build.library()._name == str(build.LIBRARY) and build.LIBRARY.parent == Path(build.__file__).parent


@needs_kernels
def test_a_library_of_other_source_is_not_used(installed):
    """As after an update of an editable installation that nobody built again."""
    assert build.problem() is None
    for function in CACHED:
        function.cache_clear()
    (installed / "messages.c").write_text((installed / "messages.c").read_text() + "\n/* changed */\n")
    with pytest.warns(RuntimeWarning, match=r"built from other source.*pip install --force-reinstall.*torch's own operations"):
        assert "built from other source" in messages.why_not(CPU)
    assert not messages.kernels_usable(CPU)
    with pytest.raises(build.NoKernels, match="other source"):
        build.kernel("forward", "float")


@needs_kernels
@pytest.mark.parametrize("left", [0, 100, 0.3, 0.98, 0.9999])
def test_a_library_that_is_cut_short_is_not_loaded(installed, left):
    """Loading one kills Python; the last part of the file is cut off here, as a full disk does."""
    content = build.LIBRARY.read_bytes()
    build.LIBRARY.write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    with pytest.warns(RuntimeWarning, match="Rebuild them with gcc or clang"):
        assert messages.why_not(CPU) is not None


@needs_kernels
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_library_with_one_wrong_bit_is_not_loaded(installed, place):
    content = bytearray(build.LIBRARY.read_bytes())
    content[int(place * len(content))] ^= 4
    build.LIBRARY.write_bytes(content)
    with pytest.warns(RuntimeWarning, match="damaged or cut short|other source"):
        assert messages.why_not(CPU) is not None


@needs_kernels
def test_a_library_that_the_system_cannot_load(installed):
    """Right source, but no library: a text, or one built for another system."""
    build.LIBRARY.write_bytes(build.sealed(f"race_calc kernels {build.source_hash(installed)}".encode()))
    with pytest.warns(RuntimeWarning, match="cannot be loaded"):
        assert "Rebuild" in messages.why_not(CPU)


@needs_kernels
def test_a_library_that_cannot_be_read(installed, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.warns(RuntimeWarning, match="cannot be read.*Permission denied"):
        assert not messages.kernels_usable(CPU)


def test_without_a_library_nothing_is_warned(installed):
    build.LIBRARY.unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problem = messages.why_not(CPU)
    assert "no C compiler was found" in problem and "pip install" in problem


def test_in_a_checkout_the_command_is_for_an_editable_installation(installed):
    build.LIBRARY.unlink(missing_ok=True)
    checkout = installed.parents[2]
    (checkout / "setup.py").write_text("")
    assert f"-m pip install --no-deps --editable {checkout}" in messages.why_not(CPU)


@needs_kernels
def test_every_number_type_and_variant_has_every_kernel():
    variants = ["baseline"] if build.variant() == "baseline" else ["baseline", "avx2", "avx512"]
    library = ctypes.CDLL(str(build.LIBRARY))
    for name in ("forward", "backward", "twice"):
        for real in ("float", "double"):
            assert all(hasattr(library, f"{name}_{real}_{variant}") for variant in variants)


@pytest.mark.parametrize("compiler", ["nothing", "/bin/false"])
def test_an_installation_without_a_compiler_succeeds(tmp_path, compiler):
    pytest.importorskip("setuptools")
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path / "temp")]
    done = subprocess.run(command, env=os.environ | {"CC": compiler}, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*.so")) == [] and "_library" in done.stderr
