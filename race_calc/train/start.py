"""A training that goes on from a finished model: pretraining on cheap labels, fine-tuning on others."""

from dataclasses import replace
from pathlib import Path

from race_calc.data.contribution import Baseline
from race_calc.data.dataset import element_names
from race_calc.data.references import References
from race_calc.model.baseline import check
from race_calc.model.parameters import Parameters, select_members, shares_trunk
from race_calc.model.race import Race
from race_calc.posterior.base import by_name
from race_calc.posterior.checkpoint import Checkpoint, load_checkpoint
from race_calc.posterior.manifest import hash_weights
from race_calc.posterior.shipped import model_folder
from race_calc.train.config import TrainConfig


def start_of(config: TrainConfig, folder: Path, elements: tuple[int, ...], baseline: Baseline | None) -> tuple[Checkpoint, str] | None:
    """The model of `training.start_from` and the hash of its weights; None without one. `elements`, `baseline`: of the training.

    Raises ValueError where it has another architecture, another baseline, other elements or fewer members, or its members are no
    models of their own; and what `load_checkpoint` raises.
    """
    if config.training.start_from is None:
        return None
    path, start = _loaded(config, folder)
    mine, its = (one.to_dict() for one in (config.model, start.model.plan.config))
    other = [f"{key} {its[key]} (here {mine[key]})" for key in mine if mine[key] != its[key]]
    if other:
        raise ValueError(f"training.start_from: {path} has another architecture: {', '.join(other)}; write the same in model")
    if start.model.species != elements:
        raise ValueError(
            f"training.start_from: {path} knows {element_names(start.model.species)}, the training data hold "
            f"{element_names(elements)}: they must be the same"
        )
    try:
        check(config.model.baseline, baseline, start.baseline)
    except ValueError as error:
        raise ValueError(f"training.start_from: {path}: {error}") from None
    if shares_trunk(start.parameters) or not by_name(start.posterior).independent or by_name(config.posterior).many_last_layers:
        raise ValueError(f"training.start_from: a {config.posterior} cannot start from a {start.posterior}: it takes models of their own")
    if start.members < config.trained:
        raise ValueError(f"training.start_from: {path} has {start.members} members, {config.trained} are trained: equal ones stay equal")
    return start, hash_weights(path)


def _loaded(config: TrainConfig, folder: Path) -> tuple[Path, Checkpoint]:
    """The model of `training.start_from`: a folder below the data folder, or a shipped model by its name."""
    name = str(config.training.start_from)
    path = folder / name if (folder / name).exists() else folder / model_folder(name)
    try:
        return path, load_checkpoint(path, calibration=False)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"training.start_from, which is relative to the data folder: {error}") from None


def kept_references(config: TrainConfig, folder: Path, fitted: References) -> References:
    """Those of the model that it starts from where `training.keep_references` says so, and the elements are the same."""
    if not config.training.keep_references:
        return fitted
    start = _loaded(config, folder)[1]
    return start.references if start.references.species == fitted.species else fitted


def same_constants(start: Checkpoint, model: Race, references: References) -> tuple[Race, References]:
    """With scale and neighbours of the model that was trained before: its weights mean nothing with others."""
    scale = start.references.scale
    return replace(model, scale=scale, neighbours=start.model.neighbours), replace(references, scale=scale)


def first_weights(start: Checkpoint, members: int) -> Parameters:
    return {name: value.double() for name, value in select_members(start.parameters, list(range(members))).items()}
