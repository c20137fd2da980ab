"""What a potential says about the candidates for a label: the pool that `race_calc.uncertainty.acquisition` chooses from. No torch."""

from collections.abc import Collection, Sequence

import numpy as np
from ase import Atoms

from race_calc.evaluate.predict import Progress, silent
from race_calc.uncertainty.candidates import Pool
from race_calc.uncertainty.prediction import Prediction
from race_calc.uncertainty.predictor import BATCH, Predictor, raw_predictions


def pool_of(
    predictor: Predictor,
    structures: Sequence[Atoms],
    known: Sequence[Atoms] = (),
    places: Collection[str] = ("features",),
    progress: Progress = silent,
    scored: bool = True,
) -> Pool:
    """Scores and information of the structures. Predictions are not calibrated.

    `places`: which of theirs are wanted as well, and of those that are known; "distances" take every pair of atoms: for molecules and
    small cells. `scored`: False for methods that only ask where structures lie: nothing else is predicted.

    Raises ValueError for no structures, and what the predictor raises.
    """
    if not structures:
        raise ValueError("the pool has no structures: there is nothing to choose from")
    scores: dict[str, list[np.ndarray]] = {}
    told: list[tuple[np.ndarray, np.ndarray] | None] = []
    done = 0
    for prediction in raw_predictions(predictor, structures, BATCH) if scored else ():
        for name, values in _scores(prediction).items():
            scores.setdefault(name, []).append(values)
        told.append(_information(prediction))
        done += len(prediction.energy)
        progress(done, len(structures))
    whole = {name: np.concatenate(values) for name, values in scores.items() if len(values) == len(told)}
    lie = {name: values for name, values in (_places(name, predictor, structures, known) for name in places) if values is not None}
    of_pool, of_known = ({name: values[k] for name, values in lie.items()} for k in (0, 1))
    return Pool(len(structures), whole, _joined(told, whole) if scored else None, of_pool, of_known)


def usual_method(predictor: Predictor) -> str:
    """What to choose by where nobody says: a method that buys no near duplicates (`docs/selection.md` has what it is worth)."""
    return "lcmd" if hasattr(predictor, "structure_features") else "batch"


def _places(
    name: str, predictor: Predictor, structures: Sequence[Atoms], known: Sequence[Atoms]
) -> tuple[str, tuple[np.ndarray, np.ndarray] | None]:
    """Of the structures and of the known ones, with their name; None where there are none."""
    if name == "features":
        told = getattr(predictor, "structure_features", None)
        if told is None:
            return name, None
        features = np.asarray(told(structures))
        return name, (features, np.asarray(told(known)) if known else features[:0])
    formula = sorted(structures[0].numbers)
    if len(formula) < 2 or any(sorted(atoms.numbers) != formula for atoms in structures):
        return name, None
    alike = [atoms for atoms in known if sorted(atoms.numbers) == formula]
    return name, (_distances(structures), _distances(alike) if alike else _distances(structures[:1])[:0])


def _scores(prediction: Prediction) -> dict[str, np.ndarray]:
    """Of every structure (B,): variances per atom and component, BALD of forces per atom."""
    atoms, given = prediction.n_atoms, prediction.available
    per_structure = lambda values: np.bincount(prediction.batch, values, minlength=len(atoms)) / atoms  # noqa: E731
    found = {}
    if "energy_uncertainty_epistemic" in given and prediction.energy_epistemic is not None:
        found["variance-energy"] = prediction.energy_epistemic / atoms
    if "forces_covariance_epistemic" in given and prediction.forces_covariance_epistemic is not None:
        found["variance-forces"] = per_structure(np.trace(prediction.forces_covariance_epistemic, axis1=1, axis2=2) / 3)
    if "bald_energy" in given and prediction.bald_energy is not None:
        found["bald-energy"] = prediction.bald_energy
    if "bald_forces" in given and prediction.bald_forces is not None:
        found["bald-forces"] = per_structure(prediction.bald_forces)
    return found


def _information(prediction: Prediction) -> tuple[np.ndarray, np.ndarray] | None:
    """DᵀΣ⁻¹D/M of the energy and of the forces, (B, M, M) each, with Σ as predicted, else one (energies: one per atom)."""
    energies, forces = prediction.energies_members, prediction.forces_members
    if energies is None or forces is None or len(energies) < 2 or len(forces) != len(energies):
        return None
    members, atoms = len(energies), prediction.n_atoms
    with np.errstate(all="ignore"):
        noise = atoms if prediction.energy_aleatoric is None else prediction.energy_aleatoric
        d = (energies - energies.mean(axis=0)).T  # (B, M)
        of_energy = d[:, :, None] * d[:, None, :] / noise[:, None, None] / members
        f = np.moveaxis(forces - forces.mean(axis=0), 0, 2)  # (N, 3, M)
        covariance = prediction.forces_covariance_aleatoric
        weighted = f if covariance is None else _solved(covariance, f)
        each = np.einsum("nim,nik->nmk", f, weighted) / members
    of_forces = np.zeros((len(atoms), members, members))
    np.add.at(of_forces, prediction.batch, each)
    return of_energy, of_forces


def _solved(covariance: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Σ⁻¹ f; NaN where Σ is singular or not finite."""
    usable = np.isfinite(covariance).all(axis=(1, 2)) & (np.linalg.det(np.nan_to_num(covariance)) > 0)
    found = np.full(vectors.shape, np.nan)
    found[usable] = np.linalg.solve(covariance[usable], vectors[usable])
    return found


def _joined(told: list[tuple[np.ndarray, np.ndarray] | None], scores: dict[str, np.ndarray]) -> np.ndarray | None:
    """(P, M, M); where members predict no variances, the noise is the mean variance between them over the pool."""
    parts = [part for part in told if part is not None]
    if len(parts) < len(told):
        return None
    energy, forces = (np.concatenate(kind) for kind in zip(*parts))
    if "bald-energy" not in scores:
        energy = energy / _mean(scores["variance-energy"])
    if "bald-forces" not in scores:
        forces = forces / _mean(scores["variance-forces"])
    return np.asarray(energy + forces)


def _mean(values: np.ndarray) -> float:
    """Of what is finite; 1 where members agree."""
    return float(values[np.isfinite(values)].mean()) or 1.0


def _distances(structures: Sequence[Atoms]) -> np.ndarray:
    """All distances between atoms (B, N (N − 1)/2) in Å, sorted, the nearest images."""
    upper = np.triu_indices(len(structures[0]), 1)
    return np.array([np.sort(atoms.get_all_distances(mic=bool(atoms.pbc.any()))[upper]) for atoms in structures])
