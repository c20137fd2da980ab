"""A model on disk: a folder with weights.safetensors, config.json, card.md and manifest.json, after `race-calc calibrate` also
calibration.json. Loading executes nothing."""

import json
import os
from dataclasses import asdict, dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors.torch import save

from race_calc.data.files import parse_json, write_atomically
from race_calc.data.references import References
from race_calc.model.config import ModelConfig
from race_calc.model.parameters import Parameters, n_members
from race_calc.model.plan import make_plan
from race_calc.model.race import Race
from race_calc.model.surfaces import Constants
from race_calc.posterior.base import MOST_MEMBERS, by_name
from race_calc.posterior.calibrations import calibration_of
from race_calc.posterior.formats import FORMAT, FORMAT_VERSION, has_center, stored_model_config
from race_calc.posterior.given import Noise
from race_calc.posterior.manifest import (
    CALIBRATIONS,
    CARD,
    CONFIG,
    MANIFEST,
    RECIPE,
    START,
    WEIGHTS,
    CheckpointError,
    check_files,
    read_listed,
    read_manifest,
    sha256,
    write_manifest,
)
from race_calc.posterior.shipped import model_folder, told_names
from race_calc.posterior.values import flag, number, told, whole
from race_calc.posterior.weights import CENTER, DISTANCE, LAST_LAYER_COVARIANCE, Parts, read_weights
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.environments import Environments
from race_calc.uncertainty.feature_distance import FeatureDistance
from race_calc.uncertainty.known_distances import KnownDistances

UNITS = {"energy": "eV", "length": "Å", "forces": "eV/Å", "stress": "eV/Å³", "cutoff": "Å"}
MOST_NEIGHBOURS = 100_000.0


@dataclass(frozen=True)
class Checkpoint:
    """A trained stack and what is needed to use and to judge it.

    ================ ============================================================================
    field            meaning
    ================ ============================================================================
    model            plan, species, scale and average number of neighbours
    references       E0 of the species and shift per atom, eV
    parameters       name → (M, …), the stack of parameter sets; (1, …) for a shared trunk
    posterior        its name in the registry (`race_calc.posterior.base`)
    thresholds       criterion of the monitor → value that "auto" stands for, of uncalibrated scores
    training         record of the training: configuration, seeds, best epochs, validation errors
    data             hashes of the data and its structures, and the split (indices and seed)
    noise            variances of the labels where the head predicts none, or None
    last_layer       covariance (L, L) of the last-layer weights where the posterior has it, or None
    center           name → (1, …), the MAP, whose predictions are the means; None: the mean of the members
    calibration      what `race-calc calibrate` found, or None
    baseline         what tells the baseline of the training (`race_calc.model.baseline.record`)
    feature_distance how far an atom is from those of the training, or None
    known_distances  which distances between atoms the training has, or None
    environments     its distances, bond angles and coordination numbers, to explain a halt, or None
    surfaces         constants of each surface of a model of several, () of one energy; references are those of the
                     first, and thresholds of the others have `surfaces.k.` before their names
    state            which electronic state the calibration is of
    ================ ============================================================================
    """

    model: Race
    references: References
    parameters: Parameters
    posterior: str
    thresholds: dict[str, float] = field(default_factory=dict)
    training: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)
    noise: Noise | None = None
    last_layer: np.ndarray | None = None
    center: Parameters | None = None
    calibration: Calibration | None = None
    baseline: dict = field(default_factory=dict)
    feature_distance: FeatureDistance | None = None
    known_distances: KnownDistances | None = None
    environments: Environments | None = None
    surfaces: tuple[Constants, ...] = ()
    state: int = 0

    @property
    def members(self) -> int:
        return n_members(self.parameters)


def save_checkpoint(folder: str | Path, checkpoint: Checkpoint, card: str) -> None:
    """Write the folder; each file is replaced in one step, the configuration, without which it is no model, last. A calibration of other
    weights is removed; write the new one with `save_calibration`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = checkpoint.model
    config = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "units": UNITS,
        "references": checkpoint.references.to_dict(),
        "model": model.plan.config.to_dict(),
        "average_neighbours": model.neighbours,
        "posterior": {"name": checkpoint.posterior, "members": checkpoint.members} | ({"mean": "map"} if checkpoint.center else {}),
        "thresholds": checkpoint.thresholds,
        "training": checkpoint.training,
        "data": checkpoint.data,
        "noise": None if checkpoint.noise is None else asdict(checkpoint.noise),
        "baseline": checkpoint.baseline,
        "feature_distance": checkpoint.feature_distance is not None,
        "known_distances": None if checkpoint.known_distances is None else checkpoint.known_distances.to_dict(),
        "environments": None if checkpoint.environments is None else checkpoint.environments.to_dict(),
        "surfaces": [known.to_dict() for known in checkpoint.surfaces],
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.parameters.items()}
    for name, value in (checkpoint.center or {}).items():
        tensors[CENTER + name] = value.detach().cpu().contiguous()
    if checkpoint.last_layer is not None:
        tensors[LAST_LAYER_COVARIANCE] = torch.from_numpy(np.ascontiguousarray(checkpoint.last_layer, dtype=np.float64))
    if checkpoint.feature_distance is not None:
        tensors |= {DISTANCE + name: torch.from_numpy(value).float() for name, value in vars(checkpoint.feature_distance).items()}
    text, weights = (json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(), save(tensors)
    same = (folder / WEIGHTS).is_file() and (folder / WEIGHTS).read_bytes() == weights
    old = [] if same else [name for name in CALIBRATIONS if os.path.lexists(folder / name)]
    listed = (read_manifest(folder) or {}) if same else {}
    kept = {name: digest for name, digest in listed.items() if name in CALIBRATIONS}  # a changed one stays refused
    for name in (CONFIG, MANIFEST, *old):
        (folder / name).unlink(missing_ok=True)
    write_atomically(folder / WEIGHTS, weights)
    write_atomically(folder / CARD, card.encode())
    write_manifest(folder, kept | {CONFIG: sha256(text)})
    write_atomically(folder / CONFIG, text)


@torch.inference_mode(False)  # parameters are ordinary tensors also for a caller who is in that mode
def load_checkpoint(folder: str | Path, calibration: bool = True, state: int | str = 0) -> Checkpoint:
    """Read a folder written by `save_checkpoint`, or a shipped model by its name; nothing in it is executed. `calibration`: also what
    calibrates it; of a model of several electronic states, what calibrates `state`, a number or name.

    Raises TypeError for what is no path, ValueError for a state that the model does not have, FileNotFoundError when the folder or one of
    its files is missing, CheckpointError when a file is damaged, incomplete, not what the manifest says or of a newer format version, or
    no posterior of its name is registered. Warns of a changed file that is not read, such as the card.
    """
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"a model is the path of its folder, such as models/3bpa-de, not {folder!r}")
    folder = Path(model_folder(folder))
    if not folder.is_dir():
        raise FileNotFoundError(f"no model folder {folder} (in {folder.absolute().parent}): check the path, or take {told_names()}")
    hashes = read_manifest(folder)
    config = _read_config(folder, hashes)
    content = read_listed(folder, WEIGHTS, hashes)
    check_files(folder, hashes, (START, CARD, RECIPE))
    try:
        references = References.from_dict(config["references"])
        settings = stored_model_config(config["model"], config["version"])
        members, posterior = whole(config["posterior"], "members", MOST_MEMBERS), by_name(config["posterior"]["name"])
        centered = has_center(config["posterior"], posterior)
        neighbours = number(config, "average_neighbours", MOST_NEIGHBOURS)
        extra = {key: dict(config[key]) for key in ("thresholds", "training", "data")}
        for name in extra["thresholds"]:
            number(extra["thresholds"], name)
        baseline = {} if config["version"] < 6 else dict(config["baseline"])
        has_distance = config["version"] >= 7 and flag(config, "feature_distance")
        known_distances = KnownDistances.from_dict(None if config["version"] < 9 else config["known_distances"], settings.cutoff)
        environments = Environments.from_dict(None if config["version"] < 10 else config["environments"], settings.cutoff)
        surfaces = () if config["version"] < 8 else tuple(Constants.from_dict(one) for one in config["surfaces"])
        if len(surfaces) != (len(settings.kinds) if settings.has_surfaces else 0):
            raise ValueError(f"there are constants of {len(surfaces)} surfaces, {len(settings.kinds)} are named")
        noise = None if config["version"] < 3 or config["noise"] is None else Noise(**config["noise"])
    except KeyError as error:
        raise CheckpointError(f"{folder / CONFIG} lacks the key {error}: the file is incomplete, copy it again") from None
    except (ValidationError, ValueError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{folder / CONFIG} holds a value that cannot be used: {told(error)}") from None
    state = state_of(settings, state)
    check_files(folder, hashes, [CALIBRATIONS[state]] if calibration else [])
    plan = make_plan(settings, len(references.species))
    weights = read_weights(content, folder / WEIGHTS, plan, members, posterior, Parts(centered, has_distance))
    return Checkpoint(
        Race(plan, references.species, references.scale, neighbours),
        references,
        weights.parameters,
        posterior.name,
        **extra,
        noise=noise,
        last_layer=weights.last_layer,
        center=weights.center,
        calibration=calibration_of(folder / CALIBRATIONS[state], sha256(content), state) if calibration else None,
        baseline=baseline,
        feature_distance=weights.feature_distance,
        known_distances=known_distances,
        environments=environments,
        surfaces=surfaces,
        state=state,
    )


def _read_config(folder: Path, hashes: dict[str, str] | None) -> dict[str, Any]:
    text = read_listed(folder, CONFIG, hashes)
    try:
        config = parse_json(text, folder / CONFIG, FORMAT, FORMAT_VERSION)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    if config["version"] >= 4 and hashes is None:
        raise CheckpointError(
            f"{folder} has no {MANIFEST}: it is not a complete model folder, copy it again; or race-calc manifest {folder}"
        )
    return config


def state_of(config: ModelConfig, state: int | str) -> int:
    """The number of a state that is given by number or name. Raises ValueError where the model has none such."""
    names = config.states
    if isinstance(state, str) and state in names:
        return names.index(state)
    if isinstance(state, Integral) and not isinstance(state, bool) and 0 <= state < max(len(names), 1):
        return int(state)
    has = f"{len(names)} states, {', '.join(names)}, counted from 0" if names else "one energy: leave state out"
    raise ValueError(f"state is {state!r}, and the model has {has}")
