"""race-calc manifest: after a change on purpose, say anew which files belong to a model."""

import os
from pathlib import Path
from typing import Annotated

import typer

from race_calc.cli.app import command


@command("manifest")
def manifest(model: Annotated[Path, typer.Argument(help="folder of the model; its manifest.json is written or replaced")]) -> None:
    """Trust the files of a model folder as they are, for example after its card was edited."""
    from race_calc.posterior.checkpoint import load_checkpoint
    from race_calc.posterior.manifest import CONFIG, MANIFEST, WEIGHTS, CheckpointError, read_manifest, write_manifest

    for name in (CONFIG, WEIGHTS):
        if not os.path.lexists(model / name):
            raise FileNotFoundError(f"{model} has no {name}: it is not a model folder, check the path")
    try:
        before = read_manifest(model) or {}
    except CheckpointError:
        before = {}
    after = write_manifest(model)
    load_checkpoint(model)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    print(f"{model / MANIFEST} names {len(after)} files; new or changed: {', '.join(changed) or 'none'}")
