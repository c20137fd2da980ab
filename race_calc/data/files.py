"""Files that are there whole or not at all, and JSON that says what it is."""

import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LARGEST_JSON = 256 * 2**20  # bytes; a model of a million training structures has 20 MiB
SHOWN = 200  # characters of a text from a file, or of an error about it, that a message repeats


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that a reader, or a killed process, sees the old file or the new one, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def append_durably(path: Path, content: bytes) -> None:
    """Append `content`, which is on the disk when this returns."""
    with open(path, "ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def check_regular(path: Path, or_folder: bool = False) -> None:
    """Raises FileNotFoundError where there is nothing, ValueError for what is no file: a folder, a pipe, a link that leads nowhere
    or in a circle. `or_folder`: folders pass. Nothing is opened, so nothing waits."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if path.is_symlink():
            raise ValueError(f"{path} is a link that leads nowhere or in a circle: put the file itself there") from None
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"there is no file {path}: check the path ({path.absolute()})") from None
        raise
    if not stat.S_ISREG(mode) and not (or_folder and stat.S_ISDIR(mode)):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise ValueError(f"{path} is {kind}, not a file: put the file itself there")


def read_regular(path: Path, largest: int | None = None) -> bytes:
    """The content of a file of at most `largest` bytes. Raises what `check_regular` raises, and ValueError for a larger one."""
    check_regular(path)
    size = path.stat().st_size
    if largest is not None and size > largest:
        raise ValueError(f"{path} has {size:,} bytes, more than the {largest:,} that such a file can have: give the right file")
    return path.read_bytes()


def read_json(path: Path, kind: str, newest: int) -> dict[str, Any]:
    """The content of a JSON file that calls itself `kind` ("format") and has a "version" up to `newest`.

    Raises what `parse_json` and `read_regular` raise.
    """
    return parse_json(read_regular(path, LARGEST_JSON), path, kind, newest)


def parse_json(text: bytes, path: Path, kind: str, newest: int) -> dict[str, Any]:
    """The same from the bytes of the file.

    Raises ValueError for a damaged file, numbers that are not finite (their key is named), another kind and a newer version.
    """
    try:
        content = json.loads(text.decode("utf-8"))
        infinite = next(_not_finite(content), None)
    except RecursionError:
        raise ValueError(f"{path} is damaged (nested too deep): copy it again") from None
    except ValueError as error:  # also of numbers with thousands of digits
        raise ValueError(f"{path} is damaged ({shortened(str(error))}): copy it again") from None
    if not isinstance(content, dict) or content.get("format") != kind:
        raise ValueError(f'{path} is not a {kind}: the key "format" must be "{kind}"')
    version = content.get("version")
    if type(version) is not int or version < 1:
        raise ValueError(f"{path} has no usable format version ({shortened(repr(version))}): copy it again")
    if version > newest:
        raise ValueError(f"{path} has format version {shortened(str(version))}, this race_calc reads up to {newest}: upgrade race_calc")
    if infinite is not None:
        raise ValueError(f"{path}: {infinite} is not finite (NaN or infinite): copy the file again")
    return content


def shortened(text: str) -> str:
    """At most SHOWN characters, of one line."""
    text = " ".join(text.split()) if len(text) < 100 * SHOWN else text[: 2 * SHOWN]
    return text if len(text) <= SHOWN else text[:SHOWN] + " …"


def _not_finite(content: Any, key: str = "") -> Iterator[str]:
    """Keys of numbers that are not finite, such as "references.energies[2]"."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _not_finite(value, f"{key}.{shortened(name)}" if key else shortened(name))
    elif isinstance(content, list):
        for i, value in enumerate(content):
            yield from _not_finite(value, f"{key}[{i}]")
    elif isinstance(content, float) and not math.isfinite(content):
        yield key
