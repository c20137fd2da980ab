"""A predictor against labelled structures: errors, likelihood, coverage and scores of a data set. Imports no torch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from race_calc.data.dataset import Dataset
from race_calc.data.graph import Graph, batches, structures_of
from race_calc.uncertainty.calibration import Calibration
from race_calc.uncertainty.metrics import LEVELS, calibration_error, coverage, gaussian_nll, mae, mean_sigma, rmse, vector_nll
from race_calc.uncertainty.prediction import VOIGT, Prediction, available
from race_calc.uncertainty.predictor import BATCH, Predictor, raw_predictions
from race_calc.uncertainty.residuals import Residuals
from race_calc.uncertainty.scores import all_scores


@dataclass(frozen=True)
class Quality:
    """How good the predictions of one quantity are; in its unit, None where the posterior does not give it.

    ================= ===================================================================================
    field             meaning
    ================= ===================================================================================
    mae, rmse         of the differences
    sigma             mean predicted standard deviation, total (epistemic + aleatoric)
    nll               Gaussian negative log likelihood in nat, with the ½ log 2π of each dimension; the
                      density is per unit of the quantity in eV and Å. Infinite for a singular covariance
    coverage          level → share of the differences inside the central interval
    calibration_error mean squared difference of nominal and observed levels; forces per component
    ================= ===================================================================================
    """

    mae: float
    rmse: float
    sigma: float | None = None
    nll: float | None = None
    coverage: dict[float, float] | None = None
    calibration_error: float | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A posterior on one data set of B structures.

    =============== ========================= ======= ============================================
    field           shape                     unit    meaning
    =============== ========================= ======= ============================================
    structures      int                               B
    atoms           int                               of all structures together
    stresses        int                               structures with a stress label and a volume
    energy          Quality                   eV      total energy; NLL per structure
    energy_per_atom Quality (errors only)     eV      differences divided by the atoms
    forces          Quality                   eV/Å    components; NLL per atom, full covariance
    stress          Quality or None           eV/Å³   six components; no NLL, epistemic sigma only
    scores          criterion → (B,)                  see race_calc.uncertainty.scores
    =============== ========================= ======= ============================================
    """

    structures: int
    atoms: int
    stresses: int
    energy: Quality
    energy_per_atom: Quality
    forces: Quality
    stress: Quality | None
    scores: dict[str, np.ndarray]


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


def predict_dataset(
    predictor: Predictor, dataset: Dataset, batch: int = BATCH, progress: Callable[[int, int], None] = lambda done, total: None
) -> Predicted:
    """Predict every structure of a data set; as the potential is, without a calibration.

    `batch`: evaluate structures together until they have this many atoms, where the predictor can; larger is faster and takes
    more memory, the numbers do not depend on it. `progress` is called with (structures done, all structures).

    Raises ValueError for an empty data set, and what the predictor raises (for an element that it does not know).
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


def predict_graphs(posterior, graphs: Iterable[Graph], batch: int = BATCH) -> Predicted:
    """The same of structures that are graphs already, by what has `predict(graph) -> Prediction`."""
    predicted = [(posterior.predict(graph), tuple(structures_of(graph))) for graph in batches(graphs, batch)]
    return Predicted(*zip(*predicted))


def residuals_of(predicted: Predicted, dataset: Dataset) -> Residuals:
    """Reference − prediction, with the predicted total (co)variances."""
    given, forces = predicted.available, np.concatenate(dataset.forces)

    def joined(field: str, quantity: str) -> np.ndarray | None:
        return np.concatenate([getattr(p, field) for p in predicted.predictions]) if quantity in given else None

    def members(quantity: str) -> int | None:
        spread_only = quantity + "_epistemic" in given and quantity + "_aleatoric" not in given
        return predicted.predictions[0].n_members if spread_only else None

    return Residuals(
        energy=dataset.energy - joined("energy", "energy"),
        energy_variance=joined("energy_variance", "energy_uncertainty"),
        energy_aleatoric=joined("energy_aleatoric", "energy_uncertainty_aleatoric"),
        forces=forces - joined("forces", "forces"),
        forces_covariance=joined("forces_covariance", "forces_covariance"),
        energy_members=members("energy_uncertainty"),
        forces_members=members("forces_covariance"),
        frame=np.repeat(np.arange(len(dataset)), [len(atoms) for atoms in dataset.structures]),
        numbers=np.concatenate([atoms.numbers for atoms in dataset.structures]),
        force_size=np.linalg.norm(forces, axis=1),
    )


def summarise(predicted: Predicted, found: Residuals, dataset: Dataset) -> Evaluation:
    """Errors, likelihood, coverage and scores of predictions; `found`: their residuals."""
    sizes = np.bincount(found.frame)
    labelled = np.array([stress is not None and atoms.pbc.any() for stress, atoms in zip(dataset.stress, dataset.structures)])  # (B,)
    return Evaluation(
        structures=len(dataset),
        atoms=int(sizes.sum()),
        stresses=int(labelled.sum()),
        energy=_quality(found.energy, found.energy_std, lambda: gaussian_nll(found.energy, found.energy_variance)),
        energy_per_atom=Quality(mae(found.energy / sizes), rmse(found.energy / sizes)),
        forces=_quality(found.forces, found.forces_std, lambda: vector_nll(found.forces, found.forces_covariance)),
        stress=_stress_quality(predicted, dataset, labelled) if labelled.any() else None,
        scores=scores_of(predicted),
    )


def evaluate_dataset(
    predictor: Predictor, dataset: Dataset, batch: int = BATCH, progress: Callable[[int, int], None] = lambda done, total: None
) -> Evaluation:
    """`summarise` of `predict_dataset`, which takes the same arguments."""
    predicted = predict_dataset(predictor, dataset, batch, progress)
    return summarise(predicted, residuals_of(predicted, dataset), dataset)


def _quality(difference: np.ndarray, std: np.ndarray | None, nll: Callable[[], float]) -> Quality:
    if std is None:
        return Quality(mae(difference), rmse(difference))
    covered = {level: coverage(difference, std, level) for level in LEVELS}
    return Quality(mae(difference), rmse(difference), mean_sigma(std), nll(), covered, calibration_error(difference, std))


def _stress_quality(predicted: Predicted, dataset: Dataset, labelled: np.ndarray) -> Quality:
    row, column = VOIGT
    label = np.array([dataset.stress[b][row, column] for b in np.flatnonzero(labelled)])  # (B', 6)
    difference = label - _of_structures(predicted, "stress")[labelled]
    std = _of_structures(predicted, "stress_uncertainty")[labelled]
    known = any("stress_uncertainty" in available(p) for p in predicted.predictions)
    return Quality(mae(difference), rmse(difference), mean_sigma(std) if known else None)


def _of_structures(predicted: Predicted, quantity: str) -> np.ndarray:
    """(B, 6), NaN for batches in which no structure has a volume."""
    found = [(p.value(quantity), len(p.energy)) for p in predicted.predictions]
    return np.concatenate([np.full((n, 6), np.nan) if values is None else values for values, n in found])


def scores_of(predicted: Predicted) -> dict[str, np.ndarray]:
    """Every score that can be told, criterion → (B,)."""
    each = [all_scores(p, structures) for p, structures in zip(predicted.predictions, predicted.structures)]
    return {name: np.concatenate([scores[name][0] for scores in each]) for name in each[0]}
