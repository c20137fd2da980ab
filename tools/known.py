"""Give a model of an earlier checkpoint format what it knows of its training: the distances that `distance_gap_max` watches, and the
environments (distances, bond angles, coordination numbers) that explain a halt.

    python tools/known.py MODEL --data FOLDER

MODEL: a folder that `race-calc train` made; FOLDER: what the data paths of its configuration are relative to. The structures are read
as for the training (cheap labels beside them are not needed), and their hash must be the one that the model keeps. Weights,
thresholds, calibration and card stay as they are; the configuration becomes one of the current format, the manifest fits again.
`race-calc calibrate` then makes the thresholds with `distance_gap_max`.
"""

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from race_calc.posterior.checkpoint import load_checkpoint, save_checkpoint
from race_calc.posterior.manifest import CONFIG, write_manifest
from race_calc.train.config import parse_config
from race_calc.train.familiar import environments_of, known_distances_of
from race_calc.train.prepare import prepare

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    checkpoint = load_checkpoint(given.model, calibration=False)
    config = parse_config(checkpoint.training["config"])
    config = config.model_copy(update={"data": config.data.model_copy(update={"low_level": None})})
    try:
        prepared = prepare(config, given.data)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    if prepared.data_hash != checkpoint.data["sha256"]:
        raise SystemExit(f"the data in {given.data} are not those of the training: their hash is {prepared.data_hash}")
    graphs = [example.graph for example in prepared.train]
    cutoff = checkpoint.model.plan.config.cutoff
    known = replace(checkpoint, environments=environments_of(graphs, cutoff), known_distances=known_distances_of(graphs, cutoff))
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(folder, known, "")
        shutil.copyfile(Path(folder, CONFIG), given.model / CONFIG)
    write_manifest(given.model)
    print(f"{given.model}: distances and environments of {len(graphs)} structures")
