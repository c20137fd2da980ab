"""Molecular properties with uncertainties, from a model with `model.targets`."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from ase import Atoms

from race_calc.data.graph import batches, from_atoms
from race_calc.data.properties import check_molecule
from race_calc.model.hardware import keep_freed_memory, torch_device
from race_calc.model.parameters import shares_trunk
from race_calc.posterior.calibrations import calibrations_of
from race_calc.posterior.checkpoint import load_checkpoint
from race_calc.posterior.load import load_stack
from race_calc.posterior.shipped import model_folder
from race_calc.posterior.surfaces import with_surfaces
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.prediction import Prediction, Property
from race_calc.uncertainty.predictor import BATCH


class PropertyModel:
    """The properties that a model was trained on, of any molecule of its elements.

    Parameters: `model`, folder of a checkpoint. `device`, "cpu", "cuda", … or None: CUDA where there is one. `dtype`, "float64" or
    "float32". `calibrated`: recalibrate the uncertainties with what `race-calc calibrate` stored in the model; None: where it did. The
    attribute `targets` has name → kind (`race_calc.model.pooling`).

    Raises FileNotFoundError or CheckpointError for a folder that cannot be loaded, ValueError for a model without properties, an impossible
    dtype or device, and for `calibrated=True` without a calibration.
    """

    def __init__(self, model: str | Path, device: str | None = None, dtype: str = "float64", calibrated: bool | None = None):
        keep_freed_memory()
        if dtype not in ("float32", "float64"):
            raise ValueError(f'dtype is {dtype!r}: use "float64" or "float32"')
        model = model_folder(model)
        checkpoint = load_checkpoint(model, calibration=False)
        self.targets = dict(checkpoint.model.plan.config.targets)
        if not self.targets:
            raise ValueError(f"{model} has no model.targets: it is a potential, use race_calc.RACECalculator")
        stack = load_stack(
            checkpoint, getattr(torch, dtype), torch_device(device), forces_epistemic=not shares_trunk(checkpoint.parameters)
        )
        self.posterior = with_surfaces(stack, checkpoint, 0)
        self.members, self.structures = checkpoint.members, checkpoint.data.get("structures")
        self.calibrations: tuple[Calibration | None, ...] = (None,) * len(self.targets)
        if calibrated is not False:
            self.calibrations = calibrations_of(model, len(self.targets))
        if calibrated and not self.calibrated:
            raise ValueError(f"{model} has no calibration: run `race-calc calibrate` on it, or leave out calibrated=True")

    @property
    def calibrated(self) -> bool:
        """Whether the uncertainties of all properties are recalibrated."""
        return all(self.calibrations)

    def predict(self, structures: Iterable[Atoms] | Atoms, batch: int = BATCH) -> dict[str, Property]:
        """Name → Property of all structures in their order; `batch`: atoms that are evaluated together.

        Raises ValueError for no structures, one that cannot be evaluated or repeats, and elements that the model does not know.
        """
        cutoff, given = self.posterior.model.plan.config.cutoff, [structures] if isinstance(structures, Atoms) else list(structures)
        if not given:
            raise ValueError("there are no structures: give at least one")
        graphs = (from_atoms(check_molecule(atoms), cutoff) for atoms in given)
        parts = [self.posterior.predict_each(graph) for graph in batches(graphs, batch)]
        return {name: _joined([part[k] for part in parts], self.calibrations[k]) for k, name in enumerate(self.targets)}


def _joined(raw: list[Prediction], calibration: Calibration | None) -> Property:
    parts = raw if calibration is None else [calibration.apply(part) for part in raw]

    def all_of(quantity: str) -> np.ndarray | None:
        values = [part.value(quantity) for part in parts]
        return None if any(value is None for value in values) else np.concatenate(values)  # type: ignore[arg-type]

    parts_of = [all_of(f"energy_uncertainty_{part}") for part in ("epistemic", "aleatoric")]
    epistemic, aleatoric = (None if std is None else std**2 for std in parts_of)
    return Property(np.concatenate([part.energy for part in parts]), all_of("energy_uncertainty"), epistemic, aleatoric)
