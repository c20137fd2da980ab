"""Compile the C kernels with the machine's own compiler, once; later processes load the cached library."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("messages.c")
FLAGS = ("-O3", "-march=native", "-fPIC", "-shared")


class NoCompiler(RuntimeError):
    """The C kernels cannot be built here."""


@cache
def library(real: str) -> ctypes.CDLL:
    """The kernels for `real` = "float" or "double".

    The library lies in the user's cache folder ($XDG_CACHE_HOME or ~/.cache, race_calc), named by source, compiler
    and processor. Raises NoCompiler, with the compiler's words, where it cannot be made.
    """
    try:
        return _library(real)
    except NoCompiler:
        raise
    except (OSError, RuntimeError) as error:  # no home folder, a cache that cannot be executed
        raise NoCompiler(f"the compiled kernels cannot be used: {error}") from error


def _library(real: str) -> ctypes.CDLL:
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompiler("no C compiler found: install gcc or clang, or go on without compiled kernels")
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "race_calc"
    path = folder / f"messages-{real}-{_key(compiler)}.so"
    if not path.exists():
        _compile(compiler, real, path)
    try:
        found = ctypes.CDLL(str(path))
    except OSError:  # damaged: once more
        _compile(compiler, real, path)
        found = ctypes.CDLL(str(path))
    for name in ("forward", "backward", "twice"):
        getattr(found, name).argtypes = [ctypes.c_void_p] + 4 * [ctypes.c_int64]
        getattr(found, name).restype = ctypes.c_int
    return found


def _compile(compiler: str, real: str, path: Path) -> None:
    """Write the library beside its place and move it there, so that two processes cannot disturb each other."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, suffix=".so")
    except OSError as error:
        raise NoCompiler(f"the cache folder {path.parent} cannot be written ({error}): set XDG_CACHE_HOME") from error
    os.close(handle)
    print(f"race_calc: compiling the {real} kernels, once, into {path.parent}", file=sys.stderr, flush=True)
    try:
        for flags in (FLAGS, [flag for flag in FLAGS if flag != "-march=native"]):  # some compilers do not know it
            command = [compiler, *flags, f"-DREAL={real}", str(SOURCE), "-o", draft]
            done = subprocess.run(command, capture_output=True, text=True)
            if not done.returncode:
                break
        else:
            raise NoCompiler(f"{compiler} could not compile the kernels:\n{done.stderr.strip()[:2000]}")
        os.replace(draft, path)
    finally:
        Path(draft).unlink(missing_ok=True)


def _key(compiler: str) -> str:
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    cpu = Path("/proc/cpuinfo")
    flags = (
        next((line for line in cpu.read_text().splitlines() if line.startswith(("flags", "Features"))), "")
        if cpu.exists()
        else platform.processor()
    )
    parts = (SOURCE.read_text(), version, flags, platform.machine(), *FLAGS)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
