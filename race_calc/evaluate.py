"""A posterior against labelled structures: errors, likelihood, coverage and scores of a data set."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from race_calc.calibrate.calibration import Calibration
from race_calc.calibrate.metrics import LEVELS, calibration_error, coverage, gaussian_nll, mae, mean_sigma, rmse, vector_nll
from race_calc.calibrate.residuals import Residuals
from race_calc.data.dataset import Dataset
from race_calc.graph import Graph, collate, from_atoms
from race_calc.ood.scores import all_scores
from race_calc.posterior.stack import StackPosterior
from race_calc.prediction import VOIGT, Prediction


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
    scores          criterion → (B,)                  see race_calc.ood.scores
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
    """Predictions of all structures of a data set, in its order, in batches; volume (B,) in Å³, 0 where there is none."""

    predictions: tuple[Prediction, ...]
    volume: np.ndarray

    def calibrated(self, calibration: Calibration) -> "Predicted":
        """The same, recalibrated."""
        return Predicted(tuple(calibration.apply(p) for p in self.predictions), self.volume)


def predict_dataset(
    posterior: StackPosterior,
    dataset: Dataset,
    batch: int = 256,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Predicted:
    """Predict every structure of a data set; as the posterior is, without a calibration.

    `batch`: evaluate structures together until they have this many atoms; larger is faster and takes more
    memory, the numbers do not depend on it. `progress` is called with (structures done, all structures).

    Raises ValueError for an element that the model does not know, and for an empty data set.
    """
    if len(dataset) == 0:
        raise ValueError("the data set has no structures: there is nothing to evaluate")
    cutoff = posterior.model.plan.config.cutoff
    return predict_graphs(posterior, (from_atoms(atoms, cutoff) for atoms in dataset.structures), batch,
                          lambda done: progress(done, len(dataset)))


def predict_graphs(posterior: StackPosterior, graphs: Iterable[Graph], batch: int = 256,
                   progress: Callable[[int], None] = lambda done: None) -> Predicted:
    """`predict_dataset` for one or more structures that are graphs already; `progress` is called with the structures done."""
    predictions, volumes, done = [], [], 0
    for graph in _batches(graphs, batch):
        predictions.append(posterior.predict(graph))
        volumes.append(graph.volume)
        done += graph.n_structures
        progress(done)
    return Predicted(tuple(predictions), np.concatenate(volumes))


def residuals_of(predicted: Predicted, dataset: Dataset) -> Residuals:
    """Reference − prediction, with the predicted total (co)variances."""
    predictions, forces = predicted.predictions, np.concatenate(dataset.forces)
    return Residuals(
        energy=dataset.energy - np.concatenate([p.energy for p in predictions]),
        energy_variance=_joined([p.energy_variance for p in predictions]),
        energy_aleatoric=_joined([p.energy_aleatoric for p in predictions]),
        forces=forces - np.concatenate([p.forces for p in predictions]),
        forces_covariance=_joined([p.forces_covariance for p in predictions]),
        energy_members=predictions[0].n_members if predictions[0].energy_aleatoric is None else None,
        forces_members=predictions[0].n_members if predictions[0].forces_covariance_aleatoric is None else None,
        frame=np.repeat(np.arange(len(dataset)), [len(atoms) for atoms in dataset.structures]),
        numbers=np.concatenate([atoms.numbers for atoms in dataset.structures]),
        force_size=np.linalg.norm(forces, axis=1),
    )


def summarise(predicted: Predicted, found: Residuals, dataset: Dataset) -> Evaluation:
    """Errors, likelihood, coverage and scores of predictions; `found`: their residuals."""
    sizes = np.bincount(found.frame)
    labelled = np.array([stress is not None for stress in dataset.stress]) & (predicted.volume > 0)  # (B,)
    return Evaluation(
        structures=len(dataset),
        atoms=int(sizes.sum()),
        stresses=int(labelled.sum()),
        energy=_energy_quality(found.energy, found.energy_variance),
        energy_per_atom=Quality(mae(found.energy / sizes), rmse(found.energy / sizes)),
        forces=_forces_quality(found.forces, found.forces_covariance),
        stress=_stress_quality(predicted.predictions, dataset, labelled) if labelled.any() else None,
        scores=scores_of(predicted),
    )


def evaluate_dataset(posterior: StackPosterior, dataset: Dataset, batch: int = 256,
                     progress: Callable[[int, int], None] = lambda done, total: None) -> Evaluation:
    """`summarise` of `predict_dataset`, which takes the same arguments."""
    predicted = predict_dataset(posterior, dataset, batch, progress)
    return summarise(predicted, residuals_of(predicted, dataset), dataset)


def _batches(graphs: Iterable[Graph], max_atoms: int) -> Iterator[Graph]:
    together, atoms = [], 0
    for graph in graphs:
        if together and atoms + graph.n_atoms > max_atoms:
            yield collate(together)
            together, atoms = [], 0
        together.append(graph)
        atoms += graph.n_atoms
    yield collate(together)


def _energy_quality(difference: np.ndarray, variance: np.ndarray | None) -> Quality:
    if variance is None:
        return Quality(mae(difference), rmse(difference))
    std = np.sqrt(variance)
    return Quality(
        mae(difference), rmse(difference), mean_sigma(std), gaussian_nll(difference, variance), _covered(difference, std),
        calibration_error(difference, std),
    )


def _forces_quality(difference: np.ndarray, covariance: np.ndarray | None) -> Quality:
    if covariance is None:
        return Quality(mae(difference), rmse(difference))
    std = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))  # (N, 3)
    return Quality(
        mae(difference), rmse(difference), mean_sigma(std), vector_nll(difference, covariance), _covered(difference, std),
        calibration_error(difference, std),
    )


def _stress_quality(predictions: tuple[Prediction, ...], dataset: Dataset, labelled: np.ndarray) -> Quality:
    row, column = VOIGT
    label = np.array([dataset.stress[b][row, column] for b in np.flatnonzero(labelled)])  # (B', 6)
    difference = label - _of_structures(predictions, lambda p: p.stress)[labelled]
    if not predictions[0].has_epistemic_forces:
        return Quality(mae(difference), rmse(difference))
    std = _of_structures(predictions, lambda p: p.stress_uncertainty)[labelled]
    return Quality(mae(difference), rmse(difference), mean_sigma(std))


def _of_structures(predictions: tuple[Prediction, ...], give: Callable[[Prediction], np.ndarray | None]) -> np.ndarray:
    """(B, 6), NaN for batches in which no structure has a volume."""
    found = [(give(p), len(p.energy)) for p in predictions]
    return np.concatenate([np.full((n, 6), np.nan) if values is None else values for values, n in found])


def _covered(difference: np.ndarray, std: np.ndarray) -> dict[float, float]:
    return {level: coverage(difference, std, level) for level in LEVELS}


def _joined(parts: list[np.ndarray | None]) -> np.ndarray | None:
    """What a posterior does not give, it gives for no batch."""
    return None if parts[0] is None else np.concatenate(parts)


def scores_of(predicted: Predicted) -> dict[str, np.ndarray]:
    """Every score that the posterior gives, criterion → (B,)."""
    each = [all_scores(p) for p in predicted.predictions]
    return {name: np.concatenate([scores[name][0] for scores in each]) for name in each[0]}
