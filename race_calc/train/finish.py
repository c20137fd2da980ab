"""From the last state of a training to a model folder: parameter sets of the posterior, thresholds, a card."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import torch

from race_calc import __version__
from race_calc.data.lock import locked
from race_calc.data.sources import told
from race_calc.data.targets import Example
from race_calc.evaluate.calibrate import thresholds_from
from race_calc.evaluate.predict import predict_graphs
from race_calc.model.parameters import Parameters, expanded, surface_prefix
from race_calc.model.surfaces import surfaces_of
from race_calc.posterior.base import by_name
from race_calc.posterior.checkpoint import CARD, Checkpoint, save_checkpoint
from race_calc.posterior.given import Fitted, Progress
from race_calc.posterior.load import load_stack
from race_calc.posterior.stack import StackPosterior
from race_calc.posterior.state import Trained, flatten, unflatten
from race_calc.posterior.surfaces import SurfacesPosterior, with_surfaces
from race_calc.posterior.validation import errors_text
from race_calc.train.config import TrainConfig
from race_calc.train.context import Context, context_of
from race_calc.train.familiar import environments_of, feature_distance_of, known_distances_of
from race_calc.train.levels import at_level
from race_calc.train.prepare import Prepared, member_seeds, with_stress_weight
from race_calc.train.spreads import refitted
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
            fitted = beside(fitted, context, best)
        return write_model(context, config, prepared, fitted, record, folder)


def beside(fitted: Fitted, context: Context, one: Parameters) -> Fitted:
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
    graphs = [example.graph for example in context.train]
    cutoff = prepared.model.plan.config.cutoff
    features, distances = feature_distance_of(stack, graphs), known_distances_of(graphs, cutoff)
    checkpoint = replace(checkpoint, feature_distance=features, known_distances=distances, environments=environments_of(graphs, cutoff))
    stack = replace(stack, feature_distance=features, known_distances=distances)
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
    center = checkpoint.training["posterior"].get("validation_of_the_model")
    of_model = f"\n  Of the model that they are drawn around: {errors_text(center)}." if center else ""
    command = "posterior fit" if "member" in checkpoint.training["posterior"] else "train"
    known = {
        name.replace("_", " "): f"{value:.4g}" if isinstance(value, float) else value
        for name, value in checkpoint.training["posterior"].items()
        if not isinstance(value, dict)
    }
    if checkpoint.noise is not None:
        known["noise variances (eV² per atom, eV²/Å²)"] = f"{checkpoint.noise.energy:.4g}, {checkpoint.noise.forces:.4g}"
    model, cheap = config.model, _of_cheap_physics(config, checkpoint)
    return f"""# {config.posterior}, {checkpoint.members} members

Made by `race-calc {command}` of race_calc {__version__} on {checkpoint.training["date"]}, seed {training.seed}.

- Data: `{told(config.data.train)}`, {len(checkpoint.data["split"]["train"])} structures to train on; SHA-256 of the data
  {checkpoint.data["sha256"]}.
{cheap}- Model: {model.hidden_irreps}, {model.layers} layers, l_max {model.l_max}, correlation
  {model.correlation}, cutoff {model.cutoff} Å, head `{model.head}`.
{_of_surfaces(config, validation)}- Recipe: `{training.recipe}`, {training.epochs} epochs, batches of {training.batch_size}.
- Validation RMSE of the mean of the members: {errors_text(validation)}.{of_model} {by_name(config.posterior).validation_use}
- Posterior: {", ".join(f"{name} {value}" for name, value in known.items()) or "the parameter sets that were trained"}.

Known limits: not measured yet; run `race-calc evaluate` on data that the training has not seen.
"""


def _of_cheap_physics(config: TrainConfig, checkpoint: Checkpoint) -> str:
    """Lines on what a training had besides its labels: others of a low level, a calculated baseline, weights to start from."""
    lines, low, start = [], config.data.low_level, config.training.start_from
    if low is not None:
        count = len(checkpoint.data["structures"].get("low_level", "").split())
        lines.append(f"- Cheap labels beside them: `{told(low.file)}`, {count} structures, with weight {low.weight:g}.")
    if checkpoint.baseline:
        lines.append(
            f"- The network learned the difference to {config.model.baseline} {checkpoint.baseline.get('code', '')}".rstrip() + "."
        )
    if start is not None:
        lines.append(f"- It started with the weights of `{start}`.")
    return "".join(f"{line}\n" for line in lines)


def _of_surfaces(config: TrainConfig, validation: dict) -> str:
    """A line for each surface but the first, of a model of several."""
    if "surfaces" not in validation:
        return ""
    names = [surface.name for surface in surfaces_of(config.model)]
    errors = [f"{name}: {errors_text(found)}" for name, found in zip(names[1:], validation["surfaces"])]
    return f"- On one trunk: {', '.join(names)}. Validation RMSE: of {names[0]} below; {'; '.join(errors)}.\n"
