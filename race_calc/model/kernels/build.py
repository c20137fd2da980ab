"""The library of C kernels that setup.py built: found beside this file, checked, loaded. Standard library only: setup.py runs it."""

import ctypes
import hashlib
import sys
import sysconfig
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
NAME = "_library"
LIBRARY = FOLDER / f"{NAME}{sysconfig.get_config_var('EXT_SUFFIX')}"


class NoKernels(RuntimeError):
    """The compiled kernels cannot be used here; the message says why, and what to do."""


def source_hash(folder: Path) -> str:
    """SHA-256, in hexadecimal digits, of the C files and headers of a folder, in the order of their names."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(folder.glob("*.[ch]")))).hexdigest()


@cache
def problem() -> str | None:
    """What keeps the kernels from working, in words; None if nothing does.

    A library that is there but cannot be used gives a RuntimeWarning too, once.
    """
    try:
        library()
    except NoKernels as error:
        if LIBRARY.exists():
            warnings.warn(f"{error}. Until then torch's own operations are used, which are slower", RuntimeWarning, stacklevel=2)
        return str(error)
    return None


@cache
def kernel(name: str, real: str) -> Callable[[int, int, int, int, int], int]:
    """The function `name` of messages.c ("forward", "backward", "twice") or products.c for real = "float" or "double", on this processor.

    Its arguments: address of the `Task`, first and last member, first and last atom. Raises NoKernels.
    """
    found = getattr(library(), f"{name}_{real}_{variant()}")
    found.argtypes = [ctypes.c_void_p] + 4 * [ctypes.c_int64]
    found.restype = ctypes.c_int
    return found


def variant() -> str:
    """The kind of processor that the kernels are taken for: "baseline", "avx2" or "avx512". Raises NoKernels."""
    asked = library().variant
    asked.restype = ctypes.c_char_p
    return asked().decode()


@cache
def library() -> ctypes.CDLL:
    """The library, built from exactly the C files that lie beside it. Raises NoKernels."""
    if not LIBRARY.is_file():
        raise NoKernels(
            f"race_calc has no compiled kernels: no C compiler was found, or it failed, when it was installed. {_remedy('Install')}"
        )
    try:
        content = LIBRARY.read_bytes()
    except OSError as error:
        raise NoKernels(f"the compiled kernels cannot be read: {error}. {_remedy('Rebuild')}") from error
    if source_hash(FOLDER).encode() not in content:
        raise NoKernels(f"the compiled kernels {LIBRARY} were built from other source than lies beside them. {_remedy('Rebuild')}")
    if content != sealed(content[: -hashlib.sha256().digest_size]):
        raise NoKernels(f"the compiled kernels {LIBRARY} are damaged or cut short. {_remedy('Rebuild')}")
    try:
        return ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise NoKernels(f"the compiled kernels cannot be loaded: {error}. {_remedy('Rebuild')}") from error


def _remedy(verb: str) -> str:
    checkout = FOLDER.parents[2]
    if (checkout / "setup.py").is_file():
        command = f"{sys.executable} -m pip install --no-deps --editable {checkout}"
    else:
        command = "pip install --force-reinstall --no-deps, in the folder of its source"
    return f"{verb} them with gcc or clang: {command}"


def sealed(content: bytes) -> bytes:
    """A library with its SHA-256 behind it: loading a damaged one would kill Python. What follows the last section is not read."""
    return content + hashlib.sha256(content).digest()
