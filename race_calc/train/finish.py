"""From the last state of a training to a model folder: best weights, thresholds, a card."""

from datetime import date
from pathlib import Path

import numpy as np
import torch

from race_calc import __version__
from race_calc.checkpoint import CARD, Checkpoint, save_checkpoint
from race_calc.graph import collate
from race_calc.ood.scores import all_scores
from race_calc.ood.thresholds import AUTO_Z, auto_thresholds
from race_calc.posterior.stack import StackPosterior, load_stack
from race_calc.train.config import TrainConfig
from race_calc.train.loop import validate
from race_calc.train.optimiser import StackState, unflatten
from race_calc.parallel import member_map
from race_calc.train.prepare import Example, Prepared, member_seeds


def finish(config: TrainConfig, prepared: Prepared, state: StackState, folder: Path, device: torch.device) -> Checkpoint:
    """Write the model folder with every member's best weights and the monitor's thresholds; an existing card is kept.

    Raises ValueError when a member never had a finite validation score: it has learned nothing.
    """
    dead = [member for member, epoch in enumerate(state.best_epoch.tolist()) if epoch < 1]
    if dead:
        raise ValueError(f"members {dead} never had a finite validation score: lower training.learning_rate and train again")
    shapes = {name: value.shape[1:] for name, value in prepared.parameters.items()}
    parameters = unflatten(state.best, shapes)
    _, measured = validate(config, prepared, state.best, shapes, device, member_map(config.members, device))
    record = {
        "race_calc": __version__,
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "config": config.to_dict(),
        "member_seeds": member_seeds(config),
        "best_epochs": state.best_epoch.tolist(),
        "skipped_steps": state.skipped.tolist(),
        "validation": measured,
        "threshold_z": AUTO_Z,
    }
    data = {"sha256": prepared.data_hash, "split": prepared.split.to_dict()}
    checkpoint = Checkpoint(
        prepared.model, prepared.references, parameters, config.posterior, training=record, data=data
    )
    posterior = load_stack(checkpoint, torch.float64, device)
    checkpoint.thresholds.update(validation_thresholds(posterior, prepared.validation))
    card = folder / CARD
    text = card.read_text(encoding="utf-8") if card.is_file() else card_text(config, checkpoint)
    save_checkpoint(folder, checkpoint, text)
    return checkpoint


def validation_thresholds(posterior: StackPosterior, examples: tuple[Example, ...]) -> dict[str, float]:
    """ "auto" of every criterion that the posterior offers, from the scores of the validation structures.

    A criterion without two positive finite scores is left out.
    """
    found: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(examples), 10):
        graph = collate([example.graph for example in examples[start : start + 10]])
        for name, (values, _) in all_scores(posterior.predict(graph)).items():
            found.setdefault(name, []).append(values)
    return auto_thresholds({name: np.concatenate(values) for name, values in found.items()})


def card_text(config: TrainConfig, checkpoint: Checkpoint) -> str:
    """A model card with what the training knows; tables on test data are added by hand from `race-calc evaluate`."""
    training, validation = config.training, checkpoint.training["validation"]
    return f"""# {config.posterior}, {checkpoint.members} members

Made by `race-calc train` of race_calc {__version__} on {checkpoint.training["date"]}, seed {training.seed}.

- Data: `{config.data.train}`, {len(checkpoint.data["split"]["train"])} structures to train on; SHA-256 of the data
  {checkpoint.data["sha256"]}.
- Model: {config.model.hidden_irreps}, {config.model.layers} layers, l_max {config.model.l_max}, cutoff
  {config.model.cutoff} Å, head `{config.model.head}`.
- Recipe: `{training.recipe}`, {training.epochs} epochs, batches of {training.batch_size}.
- Validation RMSE of the mean of the members: {1e3 * validation["mean_energy_rmse_eV"]:.1f} meV,
  {1e3 * validation["mean_force_rmse_eV_per_A"]:.1f} meV/Å. The best weights were chosen on these structures.

Known limits: not measured yet; run `race-calc evaluate` on data that the training has not seen.
"""

