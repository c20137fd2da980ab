"""Frames and log lines that carry their uncertainties. Uses ASE."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.formats import open_with_compression

from race_calc import moved_names
from race_calc.data.extxyz import as_extxyz
from race_calc.data.label_names import PREDICTED
from race_calc.md.images import monitored_images
from race_calc.uncertainty.decisions import Decision
from race_calc.uncertainty.prediction import Prediction, principal_std
from race_calc.uncertainty.scores import all_scores

SIGMA = "forces_uncertainty_max"  # array of a frame
_CALCULATOR_KEYS = ("energy", "free_energy", "forces", "stress", "energies", "stresses")


@dataclass(frozen=True)
class MonitorRecord:
    """What the monitor saw at one step.

    time: fs, None for an optimiser. temperature: K, None for an optimiser. energy: eV
    (of a NEB: the highest image). scores: every available criterion (of a NEB: the
    worst image). decision: violations and action. volume: Å³; density: g/cm³; pressure: GPa, of the mean stress and the motion
    of the atoms; None where there is no volume (of a NEB: the first image), or no stress.
    """

    step: int
    time: float | None
    temperature: float | None
    energy: float
    scores: dict[str, float]
    decision: Decision
    volume: float | None = None
    density: float | None = None
    pressure: float | None = None

    def line(self) -> dict[str, Any]:
        """The record for the log, see `race_calc.md.log`."""
        content = {"event": "step", **asdict(self)}
        content["violations"] = content.pop("decision")["violations"]
        content["action"] = self.decision.action
        if self.decision.halting is not None:
            content["message"] = str(self.decision.halting)
        return content


def annotate(atoms: Atoms, prediction: Prediction | None = None) -> Atoms:
    """A copy of the atoms with the prediction on it, in a form that extxyz keeps; None: of `atoms.calc`.

    ============================= ======== ======== ====================================
    key                           shape    unit     meaning
    ============================= ======== ======== ====================================
    arrays forces_uncertainty_max (N,)     eV/Å     std along the longest principal axis
    arrays forces_covariance      (N, 9)   (eV/Å)²  total 3×3 covariance, row by row
    arrays bald_forces            (N,)     nat
    arrays feature_distance       (N,)              from the atoms of the training
    arrays distance_gap           (N,)     Å        outside of the distances of the training
    info energy_uncertainty       float    eV       std of the total energy
    info bald_energy              float    nat
    info stress_uncertainty       (6,)     eV/Å³    std of each Voigt component
    info calibrated               bool              whether these uncertainties are calibrated
    info labels                                     PREDICTED: energy, forces and stress are no reference
    info score_<criterion>        float             see race_calc.uncertainty.scores
    calculator                                      energy, forces, stress
    ============================= ======== ======== ====================================

    What the posterior does not give is left out. The scalar arrays can be chosen under View > Colors in the ASE GUI. A trajectory of ASE
    keeps the info, a database what it is given: `database.write(frame, data=frame.info | frame.arrays)`.

    Raises ValueError when the prediction is not of one structure with these N atoms, and where there is none.
    """
    if prediction is None:
        if not hasattr(atoms.calc, "prediction"):
            raise ValueError("the atoms have no calculator with uncertainties: set atoms.calc, or give a Prediction")
        prediction = atoms.calc.prediction(atoms)
    if len(prediction.energy) != 1 or len(prediction.forces) != len(atoms):
        raise ValueError(
            f"need a prediction of one structure with {len(atoms)} atoms, got "
            f"{len(prediction.energy)} structures with {len(prediction.forces)} atoms"
        )
    frame: Atoms = atoms.copy()
    stale = _labels_of_states(frame)  # of the structure that the run began with
    for key in (*_CALCULATOR_KEYS, *stale):  # the extxyz writer refuses to hold the first twice
        frame.info.pop(key, None)
        frame.arrays.pop(key, None)
    covariance = prediction.forces_covariance
    if covariance is not None:
        frame.set_array(SIGMA, principal_std(covariance))
        frame.set_array("forces_covariance", covariance.reshape(-1, 9))
    for name in ("bald_forces", "feature_distance", "distance_gap"):
        if name in prediction.available:
            frame.set_array(name, prediction.value(name))
    for name in ("energy_uncertainty", "bald_energy"):
        if name in prediction.available:
            value: Any = prediction.value(name)
            frame.info[name] = float(value[0])
    if prediction.stress is not None and prediction.stress_uncertainty is not None:
        frame.info["stress_uncertainty"] = prediction.stress_uncertainty[0]
    for name, (values, _) in all_scores(prediction, [atoms]).items():
        frame.info[f"score_{name}"] = float(values[0])
    frame.info["calibrated"] = prediction.calibrated
    frame.info["labels"] = PREDICTED
    results = {"energy": float(prediction.energy[0]), "forces": prediction.forces.copy()}
    if prediction.stress is not None:
        results["stress"] = prediction.stress[0].copy()
    frame.calc = SinglePointCalculator(frame, **results)
    return frame


def _labels_of_states(frame: Atoms) -> list[str]:
    """Keys of labels as `race_calc.data.surfaces` has them: a state has an energy and forces, a scalar a gradient."""
    states = [key.removeprefix("forces_") for key in frame.arrays if key.startswith("forces_") and f"energy_{key[7:]}" in frame.info]
    scalars = [key.removeprefix("gradient_") for key in frame.arrays if key.startswith("gradient_") and key[9:] in frame.info]
    of_states = [key for name in states for key in (f"energy_{name}", f"forces_{name}")]
    return of_states + [key for name in scalars for key in (name, f"gradient_{name}")]


def append_frame(path: str | Path, frame: Atoms) -> None:
    """Append one frame, for example from `annotate`, to an extxyz file in one piece; `race_calc.data.extxyz.as_extxyz` makes its text."""
    text = as_extxyz([frame])
    with open_with_compression(str(path), "ab") as file:
        file.write(text)


def record_uncertainties(dynamics: Any, path: str | Path, interval: int = 1, append: bool = False) -> None:
    """Write an annotated frame to an extxyz file at every `interval` steps of a run.

    dynamics: any ASE dynamics or optimiser; every image of a NEB is written. An
    existing file is replaced unless append is True.

    Raises TypeError when the calculator does not offer predictions.
    """
    monitored_images(dynamics)
    if not append:
        Path(path).unlink(missing_ok=True)

    def write() -> None:
        for image, atoms in monitored_images(dynamics):
            frame = annotate(atoms, atoms.calc.prediction(atoms))
            frame.info["step"] = dynamics.nsteps
            if image is not None:
                frame.info["image"] = image
            append_frame(path, frame)

    dynamics.attach(write, interval=interval)


__getattr__ = moved_names(__name__)
