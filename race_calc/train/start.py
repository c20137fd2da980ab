"""A training that goes on from a finished model: pretraining on cheap labels, fine-tuning on others."""

from dataclasses import replace
from pathlib import Path

from race_calc.data.dataset import element_names
from race_calc.data.references import References
from race_calc.model.parameters import Parameters, select_members, shares_trunk
from race_calc.model.race import Race
from race_calc.posterior.base import by_name
from race_calc.posterior.checkpoint import Checkpoint, load_checkpoint
from race_calc.posterior.manifest import hash_weights
from race_calc.posterior.shipped import model_folder
from race_calc.train.config import TrainConfig


def start_of(config: TrainConfig, folder: Path, model: Race, references: References) -> tuple[Checkpoint, str] | None:
    """The model of `training.start_from` and the hash of its weights; None without one.

    Raises ValueError where it has another architecture, other elements or fewer members, or its members are no models of
    their own; and what `load_checkpoint` raises.
    """
    if config.training.start_from is None:
        return None
    path = _place(config, folder)
    start = load_checkpoint(path, calibration=False)
    mine, its = (one.plan.config.to_dict() for one in (model, start.model))
    other = [f"{key} {its[key]} (here {mine[key]})" for key in mine if mine[key] != its[key]]
    if other:
        raise ValueError(f"training.start_from: {path} has another architecture: {', '.join(other)}; write the same in model")
    if start.model.species != references.species:
        raise ValueError(
            f"training.start_from: {path} knows {element_names(start.model.species)}, the training data hold "
            f"{element_names(references.species)}: they must be the same"
        )
    if shares_trunk(start.parameters) or not by_name(start.posterior).independent or by_name(config.posterior).many_last_layers:
        raise ValueError(f"training.start_from: a {config.posterior} cannot start from a {start.posterior}: it takes models of their own")
    if start.members < config.trained:
        raise ValueError(f"training.start_from: {path} has {start.members} members, {config.trained} are trained: equal ones stay equal")
    return start, hash_weights(path)


def _place(config: TrainConfig, folder: Path) -> Path:
    """Of `training.start_from`: a folder below the data folder, or a shipped model by its name."""
    name = str(config.training.start_from)
    return folder / name if (folder / name).exists() else folder / model_folder(name)


def kept_references(config: TrainConfig, folder: Path, fitted: References) -> References:
    """Those of the model that it starts from where `training.keep_references` says so, and the elements are the same."""
    if not config.training.keep_references:
        return fitted
    start = load_checkpoint(_place(config, folder), calibration=False)
    return start.references if start.references.species == fitted.species else fitted


def same_constants(start: Checkpoint, model: Race, references: References) -> tuple[Race, References]:
    """With scale and neighbours of the model that was trained before: its weights mean nothing with others."""
    scale = start.references.scale
    return replace(model, scale=scale, neighbours=start.model.neighbours), replace(references, scale=scale)


def first_weights(start: Checkpoint, members: int) -> Parameters:
    return {name: value.double() for name, value in select_members(start.parameters, list(range(members))).items()}
