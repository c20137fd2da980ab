"""The calibrations of a model folder: one file for each electronic state or property, calibration.json for the first."""

import os
from pathlib import Path

from race_calc.posterior.manifest import CALIBRATIONS, CheckpointError, check_files, hash_weights, read_manifest, sha256, write_manifest
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.storage import read_calibration, write_calibration


def save_calibration(folder: str | Path, calibration: Calibration, state: int = 0) -> None:
    """Write, or replace, the calibration of a state of the model in `folder` and, where there is a manifest, its line there."""
    folder, name = Path(folder), CALIBRATIONS[state]
    hashes = read_manifest(folder)
    write_calibration(folder / name, calibration, hash_weights(folder), state)
    if hashes is not None:
        gone = [other for other in CALIBRATIONS if other != name and not os.path.lexists(folder / other)]
        known = {file: digest for file, digest in hashes.items() if file not in gone}
        write_manifest(folder, known | {name: sha256((folder / name).read_bytes())})


def calibration_of(path: Path, digest: str, state: int) -> Calibration | None:
    """What calibrates a state, or property, of the model with these weights; None without a file. Raises CheckpointError."""
    if not os.path.lexists(path):
        return None
    try:
        return read_calibration(path, digest, state)
    except ValueError as error:
        raise CheckpointError(f"{error}; or use the model uncalibrated: RACECalculator(…, calibrated=False)") from None


def calibrations_of(folder: str | Path, count: int) -> tuple[Calibration | None, ...]:
    """Of each of so many surfaces, None where it has none. Raises what `load_checkpoint` raises for a calibration."""
    folder = Path(folder)
    check_files(folder, read_manifest(folder), CALIBRATIONS[:count])
    digest = hash_weights(folder)
    return tuple(calibration_of(folder / CALIBRATIONS[k], digest, k) for k in range(count))
