"""From the last state of a training to a model folder: parameter sets of the posterior, thresholds, a card."""

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch

from race_calc import __version__
from race_calc.data.lock import locked
from race_calc.data.sources import told
from race_calc.data.targets import Example
from race_calc.evaluate.calibrate import thresholds_from
from race_calc.evaluate.predict import predict_graphs
from race_calc.model.parameters import Parameters, expanded, select_members, shares_trunk, surface_prefix
from race_calc.model.surfaces import surfaces_of
from race_calc.posterior.base import by_name, names
from race_calc.posterior.checkpoint import CARD, Checkpoint, save_checkpoint
from race_calc.posterior.given import Fitted, Progress
from race_calc.posterior.stack import StackPosterior, load_stack
from race_calc.posterior.state import Trained, flatten, unflatten
from race_calc.posterior.surfaces import SurfacesPosterior, with_surfaces
from race_calc.posterior.validation import errors_text
from race_calc.train.config import TrainConfig, parse_config
from race_calc.train.context import Context, context_of
from race_calc.train.familiar import feature_distance_of
from race_calc.train.levels import at_level
from race_calc.train.prepare import Prepared, member_seeds, prepare, with_stress_weight
from race_calc.train.spreads import refitted
from race_calc.train.start import same_constants
from race_calc.train.validate import errors_of
from race_calc.uncertainty.thresholds import FALSE_ALARM_RATE


def finish(
    config: TrainConfig,
    prepared: Prepared,
    trained: Trained,
    folder: Path,
    device: torch.device,
    progress: Progress = lambda done, total: None,
) -> Checkpoint:
    """Write the model folder, with the posterior's parameter sets and the monitor's thresholds; an existing card is kept.

    `progress` is told how far a fit after the training is; the folder is locked until the end.
    Raises ValueError when a model never had a finite validation score: it has learned nothing; and what `locked` raises.
    """
    state = trained.state
    dead = [member for member, epoch in enumerate(state.best_epoch.tolist()) if epoch < 1]
    if dead:
        raise ValueError(f"members {dead} never had a finite validation score: lower training.learning_rate and train again")
    still = [member for member, steps in enumerate(state.steps.tolist()) if steps < 1]
    if still:
        raise ValueError(f"members {still} never took a step, as no loss was finite: look at the labels, or lower training.learning_rate")
    context = context_of(config, prepared, device)
    record = {
        "race_calc": __version__,
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "config": with_stress_weight(config, prepared.stress_weight).to_dict(),
        "member_seeds": member_seeds(config),
        "best_epochs": state.best_epoch.tolist(),
        "skipped_steps": state.skipped.tolist(),
    }
    with locked(folder):
        if context.posterior.keeps_best:
            refit, factors = refitted(context, state.best)
            state = replace(state, best=refit)
            trained, record = replace(trained, state=state), record | ({"spread_factors": factors} if factors else {})
        if context.posterior.post_hoc:  # it is fitted to the plain model
            best = at_level(unflatten(state.best, context.shapes))
            context = replace(context, shapes={name: value.shape[1:] for name, value in best.items()})
            trained = replace(trained, state=replace(state, best=flatten(list(best.values()))))
        fitted = context.posterior.parameter_sets(trained, context.basis(config.members or 1, config.training.seed, progress))
        fitted = replace(fitted, parameters=at_level(fitted.parameters))
        if context.posterior.post_hoc:
            fitted = _beside(fitted, context, best)
        return write_model(context, config, prepared, fitted, record, folder)


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
    fitted = _beside(fitted, context, one)
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


def _beside(fitted: Fitted, context: Context, one: Parameters) -> Fitted:
    """With the errors of the model `one` (M = 1), which it is fitted to, in the record beside those of the draws."""
    return replace(fitted, record=fitted.record | {"validation_of_the_model": errors_of(context, one)})


def write_model(context: Context, config: TrainConfig, prepared: Prepared, fitted: Fitted, record: dict, folder: Path) -> Checkpoint:
    """The checkpoint of a fitted posterior, measured on the validation structures, in `folder`."""
    measured = errors_of(context, expanded(fitted.parameters))
    posterior = fitted.record | ({"mean": config.mean} if config.mean else {})
    record = record | {"validation": measured, "false_alarm_rate": FALSE_ALARM_RATE, "posterior": posterior}
    data = {"sha256": prepared.data_hash, "split": prepared.split.to_dict(), "structures": prepared.structures}
    checkpoint = Checkpoint(
        prepared.model,
        prepared.references,
        fitted.parameters,
        config.posterior,
        training=record,
        data=data,
        noise=fitted.noise,
        last_layer=fitted.last_layer,
        center=fitted.center if config.mean == "map" else None,
        baseline=prepared.baseline,
        surfaces=prepared.surfaces,
    )
    stack = load_stack(checkpoint, torch.float64, context.device, baseline=prepared.external)
    checkpoint = replace(checkpoint, feature_distance=feature_distance_of(stack, [example.graph for example in context.train]))
    stack = replace(stack, feature_distance=checkpoint.feature_distance)
    if checkpoint.surfaces:
        for state in range(len(config.model.states)):
            found = validation_thresholds(with_surfaces(stack, checkpoint, state), prepared.validation)  # properties have none
            checkpoint.thresholds.update({surface_prefix(state) + name: value for name, value in found.items()})
    else:
        checkpoint.thresholds.update(validation_thresholds(stack, prepared.validation))
    card = folder / CARD
    text = card.read_text(encoding="utf-8") if card.is_file() else card_text(config, checkpoint)
    save_checkpoint(folder, checkpoint, text)
    return checkpoint


def validation_thresholds(posterior: StackPosterior | SurfacesPosterior, examples: tuple[Example, ...]) -> dict[str, float]:
    """ "auto" of every criterion that the posterior offers, from the scores of the validation structures.

    Fewer than `race_calc.uncertainty.thresholds.FEWEST` structures give none.
    """
    return thresholds_from(predict_graphs(posterior, (example.graph for example in examples)))


def card_text(config: TrainConfig, checkpoint: Checkpoint) -> str:
    """A model card with what the training knows; tables on test data are added by hand from `race-calc evaluate`."""
    training, validation = config.training, checkpoint.training["validation"]
    model = checkpoint.training["posterior"].get("validation_of_the_model")
    of_model = f"\n  Of the model that they are drawn around: {errors_text(model)}." if model else ""
    command = "posterior fit" if "member" in checkpoint.training["posterior"] else "train"
    known = {
        name.replace("_", " "): f"{value:.4g}" if isinstance(value, float) else value
        for name, value in checkpoint.training["posterior"].items()
        if not isinstance(value, dict)
    }
    if checkpoint.noise is not None:
        known["noise variances (eV² per atom, eV²/Å²)"] = f"{checkpoint.noise.energy:.4g}, {checkpoint.noise.forces:.4g}"
    return f"""# {config.posterior}, {checkpoint.members} members

Made by `race-calc {command}` of race_calc {__version__} on {checkpoint.training["date"]}, seed {training.seed}.

- Data: `{told(config.data.train)}`, {len(checkpoint.data["split"]["train"])} structures to train on; SHA-256 of the data
  {checkpoint.data["sha256"]}.
- Model: {config.model.hidden_irreps}, {config.model.layers} layers, l_max {config.model.l_max}, correlation
  {config.model.correlation}, cutoff {config.model.cutoff} Å, head `{config.model.head}`.
{_of_surfaces(config, validation)}- Recipe: `{training.recipe}`, {training.epochs} epochs, batches of {training.batch_size}.
- Validation RMSE of the mean of the members: {errors_text(validation)}.{of_model} {by_name(config.posterior).validation_use}
- Posterior: {", ".join(f"{name} {value}" for name, value in known.items()) or "the parameter sets that were trained"}.

Known limits: not measured yet; run `race-calc evaluate` on data that the training has not seen.
"""


def _of_surfaces(config: TrainConfig, validation: dict) -> str:
    """A line for each surface but the first, of a model of several."""
    if "surfaces" not in validation:
        return ""
    names = [surface.name for surface in surfaces_of(config.model)]
    errors = [f"{name}: {errors_text(found)}" for name, found in zip(names[1:], validation["surfaces"])]
    return f"- On one trunk: {', '.join(names)}. Validation RMSE: of {names[0]} below; {'; '.join(errors)}.\n"
