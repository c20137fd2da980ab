"""Files that are there whole or not at all, and JSON that says what it is."""

import json
import os
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that a reader, or a killed process, sees the old file or the new one, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_json(path: Path, kind: str, newest: int) -> dict[str, Any]:
    """The content of a JSON file that calls itself `kind` ("format") and has a "version" up to `newest`.

    Raises FileNotFoundError where there is none, ValueError for a damaged file, another kind and a newer version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): copy it again") from None
    if not isinstance(content, dict) or content.get("format") != kind:
        raise ValueError(f'{path} is not a {kind}: the key "format" must be "{kind}"')
    version = content.get("version")
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"{path} has no usable format version ({version!r}): copy it again")
    if version > newest:
        raise ValueError(f"{path} has format version {version}, this race_calc reads up to {newest}: upgrade race_calc")
    return content
