"""Molecular properties with uncertainties, from a model with `model.targets`."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from race_calc.data.graph import batches, from_atoms
from race_calc.data.structure import checked
from race_calc.model.hardware import keep_freed_memory, torch_device
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.stack import load_stack
from race_calc.posterior.surfaces import with_surfaces
from race_calc.uncertainty.prediction import Prediction, Property
from race_calc.uncertainty.predictor import BATCH


class PropertyModel:
    """The properties that a model was trained on, of any molecule of its elements.

    Parameters: `model`, folder of a checkpoint. `device`, "cpu", "cuda", … or None: CUDA where there is one. `dtype`, "float64" or
    "float32". The attribute `targets` has name → kind (`race_calc.model.pooling`). Nothing is recalibrated.

    Raises FileNotFoundError or CheckpointError for a folder that cannot be loaded, ValueError for a model without properties.
    """

    def __init__(self, model: str | Path, device: str | None = None, dtype: str = "float64"):
        keep_freed_memory()
        checkpoint = load_checkpoint(model)
        self.targets = dict(checkpoint.model.plan.config.targets)
        if not self.targets:
            raise ValueError(f"{model} has no model.targets: it is a potential, use race_calc.RACECalculator")
        stack = load_stack(checkpoint, getattr(torch, dtype), torch_device(device))
        self.posterior = with_surfaces(stack, checkpoint, 0)

    def predict(self, structures: Iterable[Atoms], batch: int = BATCH) -> dict[str, Property]:
        """Name → Property of all structures in their order; `batch`: atoms that are evaluated together.

        Raises ValueError for no structures, a structure that cannot be evaluated, and elements that the model does not know.
        """
        cutoff, given = self.posterior.model.plan.config.cutoff, list(structures)
        if not given:
            raise ValueError("there are no structures: give at least one")
        graphs = (from_atoms(checked(atoms), cutoff) for atoms in given)
        parts = [self.posterior.predict_each(graph) for graph in batches(graphs, batch)]
        return {name: _joined([part[k] for part in parts]) for k, name in enumerate(self.targets)}


def _joined(parts: list[Prediction]) -> Property:
    def all_of(quantity: str) -> np.ndarray | None:
        values = [part.value(quantity) for part in parts]
        return None if any(value is None for value in values) else np.concatenate(values)  # type: ignore[arg-type]

    parts_of = [all_of(f"energy_uncertainty_{part}") for part in ("epistemic", "aleatoric")]
    epistemic, aleatoric = (None if std is None else std**2 for std in parts_of)
    return Property(np.concatenate([part.energy for part in parts]), all_of("energy_uncertainty"), epistemic, aleatoric)
