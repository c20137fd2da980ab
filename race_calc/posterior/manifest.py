"""manifest.json of a model folder: the SHA-256 of each of its files, so that a changed or a missing one is noticed.

A folder is written in the order weights, card, manifest, configuration: without its configuration it is no model, so a writer
that was stopped leaves either the old folder, or one that is refused. Folders of formats 1 to 3 have no manifest.
"""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

from race_calc.data.files import LARGEST_JSON, read_json, read_regular, shortened, write_atomically
from race_calc.data.surfaces import MOST_SURFACES

MANIFEST = "manifest.json"
WEIGHTS, CONFIG, CARD, CALIBRATION = "weights.safetensors", "config.json", "card.md", "calibration.json"
CALIBRATIONS = (CALIBRATION, *(f"calibration.{k}.json" for k in range(1, MOST_SURFACES)))  # of each electronic state, or property
START, RECIPE = "start.xyz", "train.yaml"  # a structure for the demonstration, the configuration of the training
READ = (WEIGHTS, CONFIG, *CALIBRATIONS, START)  # by the package: another content is an error; of the rest, a warning
FILES = (*READ, CARD, RECIPE)
FORMAT, VERSION = "race_calc manifest", 1


class CheckpointError(ValueError):
    """A model folder that cannot be used; the message says what is wrong and what to do."""


def write_manifest(folder: Path, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Write, or replace, the manifest; name → SHA-256 (hex) of every file that is there. `known`: hashes that are not computed."""
    there = [name for name in FILES if os.path.lexists(folder / name) and name not in (known or {})]
    hashes = {name: sha256(read_regular(folder / name)) for name in there} | dict(known or {})
    content = {"format": FORMAT, "version": VERSION, "files": {name: hashes[name] for name in FILES if name in hashes}}
    write_atomically(folder / MANIFEST, (json.dumps(content, indent=2) + "\n").encode())
    return hashes


def read_manifest(folder: Path) -> dict[str, str] | None:
    """name → SHA-256 (hex), or None where there is no manifest. Raises CheckpointError for one that is damaged."""
    path = folder / MANIFEST
    if not os.path.lexists(path):
        return None
    try:
        files = read_json(path, FORMAT, VERSION).get("files")
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    if not isinstance(files, dict) or not {WEIGHTS, CONFIG} <= set(files) <= set(FILES):
        raise CheckpointError(
            f'{path}: "files" must name {WEIGHTS}, {CONFIG} and no files but {", ".join(sorted(set(FILES) - set(CALIBRATIONS[1:])))}: '
            "copy the folder again"
        )
    for name, digest in files.items():
        if not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
            raise CheckpointError(f"{path}: the SHA-256 of {name} is {shortened(repr(digest))}, not 64 hex digits: copy the folder again")
    return files


def read_listed(folder: Path, name: str, hashes: Mapping[str, str] | None) -> bytes:
    """The content of a file of the folder, which must be what the manifest says; hashes None: no manifest.

    Raises FileNotFoundError where it is missing, CheckpointError for another content and for what is no regular file.
    """
    path = folder / name
    if not os.path.lexists(path):
        raise FileNotFoundError(
            f"{folder} has no {name}: it is not a complete model folder (or writing it was stopped), copy it again{_repair(folder, name)}"
        )
    try:
        content = read_regular(path, None if name == WEIGHTS else LARGEST_JSON)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    if hashes is not None and name not in hashes:
        raise CheckpointError(
            f"{path} is not among the files that {MANIFEST} names: it does not belong to this model, remove it{_repair(folder, name)}"
        )
    if hashes is not None and sha256(content) != hashes[name]:
        raise CheckpointError(
            f"{path} is not the file that {MANIFEST} names (damaged, changed, or writing was stopped): copy the model folder again"
            + _repair(folder, name)
        )
    return content


def check_files(folder: Path, hashes: Mapping[str, str] | None, names: Iterable[str]) -> None:
    """Of these files, those that are there or in the manifest must be what it says. Raises what `read_listed` raises for those
    that the package reads; warns of the others."""
    for name in names if hashes is not None else ():
        if name not in (hashes or {}) and not (name in READ and os.path.lexists(folder / name)):
            continue
        try:
            read_listed(folder, name, hashes)
        except (CheckpointError, FileNotFoundError) as error:
            if name in READ:
                raise
            warnings.warn(str(error), stacklevel=4)


def hash_weights(folder: str | Path) -> str:
    """SHA-256 (hex) of the weights of the model in `folder`."""
    return sha256((Path(folder) / WEIGHTS).read_bytes())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _repair(folder: Path, name: str) -> str:
    """What else can be done about a file."""
    if name in CALIBRATIONS:
        state = CALIBRATIONS.index(name)
        again = f"race-calc calibrate {folder} DATA" + (f" --state {state}" if state else "")
        return f"; or calibrate it again: {again}; or use it uncalibrated: RACECalculator(…, calibrated=False)"
    return f"; after a change on purpose: race-calc manifest {folder}"
