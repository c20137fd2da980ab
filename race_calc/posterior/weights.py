"""weights.safetensors of a model folder: from its bytes to a checked stack."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.torch import load

from race_calc.data.files import shortened
from race_calc.model.hardware import one_main_thread
from race_calc.model.parameters import Parameters, is_last_layer, offset_names, parameter_shapes
from race_calc.model.plan import READOUT_HIDDEN, Plan
from race_calc.posterior.base import Posterior
from race_calc.posterior.manifest import CheckpointError
from race_calc.uncertainty.feature_distance import FeatureDistance

LAST_LAYER_COVARIANCE = "last_layer_covariance"
CENTER = "map."  # before the names of the MAP
DISTANCE = "feature_distance."  # before the arrays of it


@dataclass(frozen=True)
class Parts:
    """What there is beside the stack: the MAP, a feature distance."""

    center: bool
    feature_distance: bool


@dataclass(frozen=True)
class Weights:
    """The stack, and what there is of the covariance of the last layer, the MAP and the feature distance."""

    parameters: Parameters
    last_layer: np.ndarray | None
    center: Parameters | None
    feature_distance: FeatureDistance | None


def read_weights(content: bytes, path: Path, plan: Plan, members: int, posterior: Posterior, parts: Parts) -> Weights:
    """All that the file of weights holds; raises CheckpointError where that is not what the configuration says.

    In memory of their own, aligned as torch aligns it: safetensors gives them as they lie in the file, and torch's kernels round
    differently elsewhere.
    """
    try:
        tensors = {name: tensor.clone() for name, tensor in load(content).items()}
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError, OverflowError, AssertionError) as error:
        raise CheckpointError(f"{path} is damaged or truncated ({shortened(str(error))}): copy the model folder again") from None
    shapes = parameter_shapes(plan) | dict.fromkeys(offset_names(plan), ())
    trunk, width = 1 if posterior.shared_trunk else members, READOUT_HIDDEN * plan.config.layers
    expected = {name: (members if is_last_layer(name) else trunk, *shape) for name, shape in shapes.items()}
    if parts.center:
        expected |= {CENTER + name: (1, *shape) for name, shape in shapes.items()}
    if posterior.last_layer_covariance and not plan.config.has_surfaces:
        expected[LAST_LAYER_COVARIANCE] = 2 * (width,)
    if parts.feature_distance:
        expected |= {DISTANCE + "mean": (plan.n_species, width), DISTANCE + "whitening": (plan.n_species, width, width)}
    missing = sorted(set(expected) - set(tensors))
    if missing:
        raise CheckpointError(f"{path} lacks {len(missing)} tensors, first {missing[0]}: weights and config do not belong together")
    unknown = sorted(set(tensors) - set(expected))
    if unknown:
        raise CheckpointError(
            f"{path} holds {len(unknown)} tensors too many, first {shortened(unknown[0])}: weights and config do not belong together"
        )
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(tensors[name].shape)}, the configuration asks for {shape}: "
                "weights and config do not belong together"
            )
    parameters = {name: tensors[name] for name in expected}
    for name, value in parameters.items():
        if value.dtype not in (torch.float32, torch.float64):
            raise CheckpointError(f"{path}: {name} holds {value.dtype}, not float32 or float64: copy the model folder again")
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{path}: {name} holds numbers that are not finite: copy the model folder again, or train again")
    last_layer = parameters.pop(LAST_LAYER_COVARIANCE, None)
    if last_layer is not None and not _is_covariance(last_layer.double()):
        raise CheckpointError(f"{path}: the covariance of the last layer is not one: copy the model folder again")
    center = {name: parameters.pop(CENTER + name) for name in shapes} if parts.center else None
    distance = None
    if parts.feature_distance:
        distance = FeatureDistance(*(parameters.pop(DISTANCE + name).double().numpy() for name in ("mean", "whitening")))
    return Weights(parameters, None if last_layer is None else last_layer.double().numpy(), center, distance)


def _is_covariance(values: torch.Tensor) -> bool:
    """Symmetric, and no negative eigenvalue but for rounding."""
    rounding = 1e-6 * float(values.abs().max())
    with one_main_thread():  # on cores that others use, several would wait for each other for seconds
        return bool((values - values.mT).abs().max() <= rounding and torch.linalg.eigvalsh(values).min() >= -rounding)
