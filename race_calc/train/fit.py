"""A posterior that is fitted to a model after its training: `race-calc posterior fit`."""

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch

from race_calc.model.parameters import select_members, shares_trunk
from race_calc.posterior.base import by_name, names
from race_calc.posterior.checkpoint import Checkpoint
from race_calc.posterior.given import Progress
from race_calc.train.config import TrainConfig, parse_config
from race_calc.train.context import context_of
from race_calc.train.finish import beside, write_model
from race_calc.train.prepare import Prepared, prepare
from race_calc.train.start import same_constants


@dataclass(frozen=True)
class Request:
    """A posterior after the training: its name, how many parameter sets, around which member, the seed of the draws, what the means are.

    `mean`: one of the `means` of the posterior; None: its first.
    """

    method: str
    members: int | None = None  # that of the method
    member: int = 0
    seed: int = 0
    mean: str | None = None


def fit_posterior(
    checkpoint: Checkpoint,
    request: Request,
    data: Path,
    folder: Path,
    device: torch.device,
    progress: Progress = lambda done, total: None,
    baseline: Any = None,
) -> Checkpoint:
    """Fit a posterior to one member of a trained model and write the new model to `folder`.

    `data`: the folder that the data paths of its training are relative to. `baseline`: the calculator of an external one.
    Raises ValueError for data other than those of the training, a member that is not there, a model whose members are not models
    of their own, a posterior that is not post hoc, and what `parse_config` refuses.
    """
    member, fitting = request.member, [name for name in names() if by_name(name).post_hoc]
    if request.method not in fitting:
        raise ValueError(f"posterior {request.method} is not fitted to a trained model: take {' or '.join(fitting)}")
    if not 0 <= member < checkpoint.members:
        raise ValueError(f"there is no member {member}: the model has {checkpoint.members}, counted from 0")
    if shares_trunk(checkpoint.parameters):
        raise ValueError(f"the model is a {checkpoint.posterior} already, its members share a trunk: take one of another posterior")
    if checkpoint.surfaces and not by_name(request.method).many_surfaces:
        raise ValueError(f"the model has several states or properties: a {request.method} is fitted to models of one energy")
    if "config" not in checkpoint.training:
        raise ValueError("the model does not say how it was trained: only models of `race-calc train` can be fitted")
    if not by_name(checkpoint.posterior).independent:
        independent = " or ".join(name for name in names() if by_name(name).independent)
        raise ValueError(
            f"the parameter sets of this {checkpoint.posterior} model are draws around another one: take an {independent} model"
        )
    model = checkpoint.model.plan.config.to_dict()  # complete, also where an earlier release wrote the rest
    trained = checkpoint.training["config"]  # what the trunk was trained with besides is no part of the fit
    data_of, training_of = trained["data"] | {"low_level": None}, trained["training"] | {"start_from": None, "keep_references": False}
    changes = {
        "data": data_of,
        "training": training_of,
        "model": model,
        "posterior": request.method,
        "members": request.members,
        "mean": request.mean,
    }
    config = parse_config(trained | changes, "the model's configuration")
    prepared = _data_of(checkpoint, config, data, baseline)
    context = context_of(config, prepared, device)
    one = {name: value.to(device) for name, value in select_members(checkpoint.parameters, [member]).items()}
    fitted = context.posterior.fit(one, context.basis(config.members or 1, request.seed, progress))
    fitted = beside(fitted, context, one)
    fitted = replace(fitted, record=fitted.record | {"member": member})
    of_member = {
        key: [checkpoint.training[key][member]]
        for key in ("member_seeds", "best_epochs", "skipped_steps")
        if len(checkpoint.training.get(key, ())) == checkpoint.members
    }
    record = {**checkpoint.training, **of_member, "config": config.to_dict(), "date": date.today().isoformat()}
    return write_model(context, config, prepared, fitted, record, folder)


def _data_of(checkpoint: Checkpoint, config: TrainConfig, data: Path, baseline: Any) -> Prepared:
    """The data of the training again, with the constants of the model. Raises ValueError for other data."""
    kept = checkpoint.references if checkpoint.training["config"]["training"].get("keep_references") else None
    prepared = prepare(config, data, baseline, references=kept)
    if prepared.data_hash != checkpoint.data.get("sha256"):
        raise ValueError(f"the data in {data} are not those that the model was trained on: their SHA-256 differs")
    model, references = prepared.model, prepared.references
    if checkpoint.training["config"]["training"].get("start_from"):  # scale and neighbours are those of the model that it started from
        model, references = same_constants(checkpoint, model, references)
    if not references.close_to(checkpoint.references) or prepared.split.to_dict() != checkpoint.data.get("split"):
        raise ValueError(
            f"the reference energies or the split of the data in {data} are not those of the model: give the same "
            "isolated atoms and validation set"
        )
    return replace(prepared, model=model, references=checkpoint.references, surfaces=checkpoint.surfaces)  # to the last digit
