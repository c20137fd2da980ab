"""A model on disk: a folder with weights.safetensors, config.json and card.md, after `race-calc calibrate` also
calibration.json. Loading executes nothing."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import safetensors
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save

from race_calc.data.files import read_json, write_atomically
from race_calc.data.references import References
from race_calc.model.config import ModelConfig
from race_calc.model.parameters import Parameters, is_last_layer, n_members, offset_names, parameter_shapes
from race_calc.model.plan import READOUT_HIDDEN, Plan, make_plan
from race_calc.model.race import Race
from race_calc.posterior.base import Noise, Posterior, by_name
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.storage import read_calibration

FORMAT = "race_calc checkpoint"
FORMAT_VERSION = 3  # 2: short-range repulsion; 3: members that share a trunk, label noise, last-layer covariance
LAST_LAYER_COVARIANCE = "last_layer_covariance"
WEIGHTS, CONFIG, CARD, CALIBRATION = "weights.safetensors", "config.json", "card.md", "calibration.json"
UNITS = {"energy": "eV", "length": "Å", "forces": "eV/Å", "stress": "eV/Å³", "cutoff": "Å"}


class CheckpointError(ValueError):
    """A model folder that cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained stack and what is needed to use and to judge it.

    =========== ============================================================================
    field       meaning
    =========== ============================================================================
    model       plan, species, scale and average number of neighbours
    references  E0 of the species and shift per atom, eV
    parameters  name → (M, …), the stack of parameter sets; (1, …) for a shared trunk
    posterior   its name in the registry (`race_calc.posterior.base`)
    thresholds  criterion of the monitor → value that "auto" stands for, of uncalibrated scores
    training    record of the training: configuration, seeds, best epochs, validation errors
    data        hashes of the data and its structures, and the split (indices and seed)
    noise       variances of the labels where the head predicts none, or None
    last_layer  covariance (L, L) of the last-layer weights where the posterior has it, or None
    calibration what `race-calc calibrate` found, or None
    =========== ============================================================================
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
    calibration: Calibration | None = None

    @property
    def members(self) -> int:
        return n_members(self.parameters)


def save_checkpoint(folder: str | Path, checkpoint: Checkpoint, card: str) -> None:
    """Write the folder; each file is replaced in one step, the weights first. A calibration that is there is removed: it was
    that of other weights; write the new one with `save_calibration`."""
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
        "posterior": {"name": checkpoint.posterior, "members": checkpoint.members},
        "thresholds": checkpoint.thresholds,
        "training": checkpoint.training,
        "data": checkpoint.data,
        "noise": None if checkpoint.noise is None else asdict(checkpoint.noise),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.parameters.items()}
    if checkpoint.last_layer is not None:
        tensors[LAST_LAYER_COVARIANCE] = torch.from_numpy(np.ascontiguousarray(checkpoint.last_layer, dtype=np.float64))
    (folder / CALIBRATION).unlink(missing_ok=True)
    write_atomically(folder / WEIGHTS, save(tensors))
    write_atomically(folder / CONFIG, (json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
    write_atomically(folder / CARD, card.encode())


@torch.inference_mode(False)  # parameters are ordinary tensors also for a caller who is in that mode
def load_checkpoint(folder: str | Path, calibration: bool = True) -> Checkpoint:
    """Read a model folder written by `save_checkpoint`; nothing in it is executed. `calibration`: also what calibrates it.

    Raises FileNotFoundError when the folder or one of its files is missing, CheckpointError when a file is
    damaged, incomplete or of a newer format version, or no posterior of its name is registered.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no model folder {folder} (looked in {folder.absolute().parent}): check the path")
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}: it is not a complete model folder, copy it again")
    try:
        config = read_json(folder / CONFIG, FORMAT, FORMAT_VERSION)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    try:
        references = References.from_dict(config["references"])
        settings = _model_config(config["model"], config["version"])
        members, posterior = config["posterior"]["members"], by_name(config["posterior"]["name"])
        neighbours = float(config["average_neighbours"])
        extra = {key: dict(config[key]) for key in ("thresholds", "training", "data")}
        noise = None if config["version"] < 3 or config["noise"] is None else Noise(**config["noise"])
    except KeyError as error:
        raise CheckpointError(f"{folder / CONFIG} lacks the key {error}: the file is incomplete, copy it again") from None
    except (ValidationError, ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG} holds a value that cannot be used: {error}") from None
    plan = make_plan(settings, len(references.species))
    parameters, last_layer = _read_weights(folder / WEIGHTS, plan, members, posterior)
    model = Race(plan, references.species, references.scale, neighbours)
    return Checkpoint(
        model,
        references,
        parameters,
        posterior.name,
        **extra,
        noise=noise,
        last_layer=last_layer,
        calibration=_read_calibration(folder) if calibration else None,
    )


def _model_config(stored: dict, version: int) -> ModelConfig:
    """The architecture; every key must be there, defaults may change between releases. Raises KeyError for one that is not."""
    stored = stored | ({"repulsion": "none"} if version == 1 else {})
    config = ModelConfig.model_validate(stored)
    for key in ModelConfig.model_fields:
        if key not in stored:
            raise KeyError(key)
    return config


def _read_calibration(folder: Path) -> Calibration | None:
    path = folder / CALIBRATION
    if not path.exists():
        return None
    try:
        return read_calibration(path, hash_weights(folder))
    except ValueError as error:
        raise CheckpointError(f"{error}; or remove it to use the model uncalibrated") from None


def hash_weights(folder: str | Path) -> str:
    """SHA-256 (hex) of the weights of the model in `folder`."""
    return hashlib.sha256((Path(folder) / WEIGHTS).read_bytes()).hexdigest()  # hashlib.file_digest needs Python 3.11


def _read_weights(path: Path, plan: Plan, members: int, posterior: Posterior) -> tuple[Parameters, np.ndarray | None]:
    """The stack, and the covariance of the last-layer weights where the posterior has one."""
    try:
        tensors = load_file(path)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is damaged or truncated ({error}): copy the model folder again") from None
    shapes = parameter_shapes(plan) | dict.fromkeys(offset_names(plan), ())
    trunk = 1 if posterior.shared_trunk else members
    expected = {name: (members if is_last_layer(name) else trunk, *shape) for name, shape in shapes.items()}
    if posterior.last_layer_covariance:
        expected[LAST_LAYER_COVARIANCE] = 2 * (READOUT_HIDDEN * plan.config.layers,)
    missing = sorted(set(expected) - set(tensors))
    if missing:
        raise CheckpointError(f"{path} lacks {len(missing)} tensors, first {missing[0]}: weights and config do not belong together")
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(tensors[name].shape)}, the configuration asks for {shape}: "
                "weights and config do not belong together"
            )
    parameters = {name: tensors[name] for name in expected}
    last_layer = parameters.pop(LAST_LAYER_COVARIANCE, None)
    if last_layer is not None and not (torch.isfinite(last_layer).all() and (last_layer.diagonal() >= 0).all()):
        raise CheckpointError(f"{path}: the covariance of the last layer is not one: copy the model folder again")
    return parameters, None if last_layer is None else last_layer.double().numpy()
