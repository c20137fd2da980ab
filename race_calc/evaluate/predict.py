"""A predictor against labelled structures: errors, likelihood, coverage and scores of a data set. Imports no torch."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from race_calc.data.dataset import Dataset
from race_calc.data.graph import Graph, batches, structures_of
from race_calc.data.stress_units import doubt_of_labels
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.prediction import VOIGT, Prediction, available
from race_calc.uncertainty.predictor import BATCH, Predictor, raw_predictions
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.scores import SCORES, all_scores, fills_space, has_volume

Progress = Callable[[int, int], None]  # is called with structures done and all structures


def silent(done: int, total: int) -> None: ...


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions of all structures of a data set, in its order, in batches; and the structures of each."""

    predictions: tuple[Prediction, ...]
    structures: tuple[tuple[Atoms, ...], ...]

    @property
    def available(self) -> frozenset[str]:
        """What all batches give; a stress only some, with a volume."""
        return frozenset.intersection(*map(available, self.predictions))

    def calibrated(self, calibration: Calibration) -> "Predicted":
        """The same, recalibrated."""
        return Predicted(tuple(calibration.apply(p) for p in self.predictions), self.structures)


def predict_dataset(predictor: Predictor, dataset: Dataset, batch: int = BATCH, progress: Progress = silent) -> Predicted:
    """Predict every structure of a data set; as the potential is, without a calibration.

    `batch`: evaluate structures together until they have this many atoms, where the predictor can; larger is faster and takes more memory,
    the numbers do not depend on it. Raises ValueError for an empty data set, and what the predictor raises (for an unknown element).
    """
    if len(dataset) == 0:
        raise ValueError("the data set has no structures: there is nothing to evaluate")
    predictions, structures, done = [], [], 0
    for prediction in raw_predictions(predictor, dataset.structures, batch):
        before, done = done, done + len(prediction.energy)
        predictions.append(prediction)
        structures.append(dataset.structures[before:done])
        progress(done, len(dataset))
    return Predicted(tuple(predictions), tuple(structures))


class PredictsGraphs(Protocol):
    def predict(self, graph: Graph) -> Prediction: ...


def predict_graphs(posterior: PredictsGraphs, graphs: Iterable[Graph], batch: int = BATCH) -> Predicted:
    """The same of structures that are graphs already."""
    predictions, structures = zip(*((posterior.predict(graph), tuple(structures_of(graph))) for graph in batches(graphs, batch)))
    return Predicted(predictions, structures)


def warn_of_stresses(raw: Residuals, dataset: Dataset) -> None:
    """Labelled stresses in another unit, or of the opposite sign, than the model has learned."""
    if raw.stress is None or not (labelled := raw.stress_labelled).any():
        return
    labels = stress_labels(dataset)[labelled]
    full = [np.array([voigt_6_to_full_3x3_stress(one) for one in each]) for each in (labels - raw.stress[labelled], labels)]
    volume = float(np.mean([atoms.cell.volume for atoms, has in zip(dataset.structures, labelled) if has]))
    if doubt := doubt_of_labels(full[0], full[1], volume):
        warnings.warn(doubt, stacklevel=2)


def residuals_of(predicted: Predicted, dataset: Dataset) -> Residuals:
    """Reference − prediction, with the predicted total (co)variances."""
    given, forces = predicted.available, np.concatenate(dataset.forces)

    def joined(field: str, quantity: str) -> np.ndarray | None:
        return np.concatenate([getattr(p, field) for p in predicted.predictions]) if quantity in given else None

    def stresses(quantity: str, *shape: int) -> np.ndarray:
        each = [(p.value(quantity), len(p.energy)) for p in predicted.predictions]  # no value where no structure of a batch has a volume
        return np.concatenate([np.full((n, 6, *shape), np.nan) if values is None else values for values, n in each])

    def members(name: str, quantity: str) -> int | None:
        return predicted.predictions[0].independent_members(name) if quantity + "_epistemic" in given else None

    labels, some = stress_labels(dataset), frozenset().union(*map(available, predicted.predictions))
    known = np.isfinite(labels).all(axis=1).any() and "stress" in some
    stress = {"stress": labels - stresses("stress")} if known else {}
    if known and "stress_covariance" in some:
        stress["stress_covariance"] = stresses("stress_covariance", 6)
        stress |= {"stress_aleatoric": stresses("stress_covariance_aleatoric", 6)} if "stress_covariance_aleatoric" in some else {}
    alone = known and "stress_covariance_epistemic" in some and "stress_covariance_aleatoric" not in some
    return Residuals(
        energy=dataset.energy - joined("energy", "energy"),
        energy_variance=joined("energy_variance", "energy_uncertainty"),
        energy_aleatoric=joined("energy_aleatoric", "energy_uncertainty_aleatoric"),
        forces=forces - joined("forces", "forces"),
        forces_covariance=joined("forces_covariance", "forces_covariance"),
        forces_aleatoric=joined("forces_covariance_aleatoric", "forces_covariance_aleatoric"),
        forces_nearby=_nearby(predicted),
        forces_optional=predicted.predictions[0].forces_optional,
        spread_members=members("energy", "energy_uncertainty"),
        forces_members=members("forces", "forces_covariance") if "forces_covariance_aleatoric" not in given else None,
        **stress,
        stress_members=predicted.predictions[0].independent_members("forces") if alone else None,
        frame=np.repeat(np.arange(len(dataset)), [len(atoms) for atoms in dataset.structures]),
        numbers=np.concatenate([atoms.numbers for atoms in dataset.structures]),
        force_size=np.linalg.norm(forces, axis=1),
    )


def stress_labels(dataset: Dataset) -> np.ndarray:
    """Voigt (B, 6) eV/Å³; NaN where there is no label, or no periodic cell."""
    row, column = VOIGT
    found = np.full((len(dataset), 6), np.nan)
    for b, (stress, atoms) in enumerate(zip(dataset.stress, dataset.structures)):
        if stress is not None and has_volume(atoms):
            found[b] = stress[row, column]
    return found


def _nearby(predicted: Predicted) -> np.ndarray | None:
    """None where there is no spread, or its surroundings are not known."""
    each = [p.forces_nearby for p in predicted.predictions]
    known = [values for values in each if values is not None]
    return np.concatenate(known) if len(known) == len(each) and predicted.available & {"forces_covariance"} else None


def that_fill_space(predicted: Predicted) -> list[bool]:
    """Which structures have scores of the stress, (B,)."""
    return [fills_space(atoms) for structures in predicted.structures for atoms in structures]


def scores_of(predicted: Predicted) -> dict[str, np.ndarray]:
    """Every score that can be told of all structures, criterion → (B,); those of the stress where each fills space."""
    each = [all_scores(p, structures) for p, structures in zip(predicted.predictions, predicted.structures)]
    names = [name for name in each[0] if all(name in one for one in each) and SCORES[name].of != "volume"]
    return {name: np.concatenate([one[name][0] for one in each]) for name in names}
