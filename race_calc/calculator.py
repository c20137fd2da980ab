"""RACECalculator: a trained RACE posterior as an ASE calculator."""

from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes, all_properties
from ase.outputs import Properties

from race_calc.checkpoint import Checkpoint, load_checkpoint
from race_calc.device import torch_device
from race_calc.graph import from_atoms_with_skin
from race_calc.memory import keep_freed_memory
from race_calc.posterior.stack import load_stack
from race_calc.prediction import Prediction
from race_calc.skin import SkinList


class RACECalculator(Calculator):
    """Energy, forces, stress and their uncertainties from one evaluation of all members.

    `results` after a calculation (B = 1 structure, N atoms):

    ============================= ========= ======= ================================================
    key                           shape     unit    meaning
    ============================= ========= ======= ================================================
    energy, free_energy           float     eV      mean over the members
    energies                      (N,)      eV      per atom
    forces                        (N, 3)    eV/Å    exact gradient of the mean energy
    stress                        (6,)      eV/Å³   Voigt, ASE sign; periodic cells with a volume
    energy_uncertainty            float     eV      standard deviation, total
    forces_uncertainty            (N, 3)    eV/Å    standard deviation of each component, total
    forces_covariance             (N, 3, 3) eV²/Å²  total
    stress_uncertainty            (6,)      eV/Å³   standard deviation; epistemic part only
    stress_covariance             (6, 6)    eV²/Å⁶  the same as a covariance
    …_epistemic, …_aleatoric                        parts: between the members, predicted by them
    bald_energy, bald_forces      float,(N,) nat    mutual information of prediction and parameters
    energies_members              (M,)      eV      only with `members=True`, never calibrated
    forces_members                (M, N, 3) eV/Å    only with `members=True`, never calibrated
    calibrated                    bool              whether the uncertainties of energy and forces are
                                                    recalibrated (the stress never is)
    ============================= ========= ======= ================================================

    A quantity that the posterior does not give (BALD of a single member, covariances of the head `energy`)
    is absent, and asking for it raises ASE's PropertyNotImplementedError.

    Parameters: `model`, folder of a checkpoint. `device`, "cpu", "cuda", … or None: CUDA where there is one.
    `dtype`, "float64" or "float32". `members`, also give every member's energy and forces. `compile`: on a CPU,
    use kernels that the machine's C compiler makes on first use, once; None: where there is a compiler; False: torch's own
    operations, about three times slower. On a GPU, True lets torch compile the model in the first step of a process, which
    takes minutes; None and False do not. `tables`, read the radial functions from tables with the kernels (relative error
    of the path weights below 5e-7; for models/3bpa-de 3e-10 eV per atom and 5e-6 eV/Å, `benchmarks/tables.py`).
    `forces_epistemic`: False leaves out what needs the forces of every member (total and epistemic force covariances,
    `bald_forces`, the stress covariance); for posteriors whose members share all but the last layer (shallow-ensemble,
    llpr) a step then costs little more than that of one model. `calibrated`: recalibrate the uncertainties with what
    `race-calc calibrate` stored in the model; None: where it did. The attribute `calibration` is what is applied, or None; it
    also gives intervals (`calibration.energy.interval(0.9)`). On Linux the process keeps freed memory for the next step
    instead of returning it (`race_calc.memory`).

    Raises FileNotFoundError or CheckpointError for a folder that cannot be loaded, RuntimeError for `compile=True`
    without a C compiler on a CPU or with torch < 2.13 on a GPU, ValueError for an impossible device or dtype and for
    `calibrated=True` without a calibration; `calculate` raises ValueError for a structure that cannot be evaluated.
    """

    name = "race"
    ignored_changes = {"initial_magmoms", "initial_charges"}

    def __init__(self, model: str | Path, device: str | None = None, dtype: str = "float64", members: bool = False,
                 compile: bool | None = None, tables: bool = True, forces_epistemic: bool = True,
                 calibrated: bool | None = None):
        super().__init__()
        keep_freed_memory()
        self.checkpoint = load_checkpoint(model, calibration=calibrated is not False)
        self.implemented_properties = offered_properties(self.checkpoint, members, forces_epistemic)
        self.posterior = load_stack(self.checkpoint, _dtype(dtype), torch_device(device), compile, tables, forces_epistemic)
        if calibrated and self.checkpoint.calibration is None:
            raise ValueError(f"{model} has no calibration: run `race-calc calibrate` on it, or leave out calibrated=True")
        self.calibration = self.checkpoint.calibration
        self.parameters.update(model=str(model), dtype=dtype)
        self._prediction: Prediction | None = None
        self._pairs: SkinList | None = None

    @property
    def thresholds(self) -> dict[str, float]:
        """What "auto" means for each criterion of the monitor, from the calibration or else from the training."""
        return dict(self.checkpoint.thresholds if self.calibration is None else self.calibration.thresholds)

    def prediction(self, atoms: Atoms | None = None) -> Prediction:
        """The whole Prediction for `atoms` (default: the last ones); evaluates the model only if it is not current.

        Raises ValueError when there are no atoms yet.
        """
        if atoms is None and self.atoms is None:
            raise ValueError("nothing was calculated yet: give atoms")
        self.get_property("energy", atoms)
        return self._prediction

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """Evaluate all members once and fill `results` with everything they give."""
        self.results, self._prediction = {}, None  # nothing stale if this fails
        super().calculate(atoms, properties, system_changes)
        graph, self._pairs = from_atoms_with_skin(self.atoms, self.checkpoint.model.plan.config.cutoff, self._pairs)
        raw = self.posterior.predict(graph)
        self._prediction = raw if self.calibration is None else self.calibration.apply(raw)
        known = results_of(self._prediction)
        self.results = {name: known[name] for name in self.implemented_properties if name in known}

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True):
        """As in ASE; a stress that the structure does not have is refused without evaluating the model again."""
        current = self.results and (atoms is None or not self.check_state(atoms))
        if current and name in self.implemented_properties and name not in self.results:
            raise PropertyNotImplementedError(f"{name} needs a periodic cell with a volume")
        return super().get_property(name, atoms, allow_calculation)

    def set(self, **changes):
        """Refuses changes: model, device and dtype are fixed when the calculator is made."""
        if changes:
            raise ValueError(f"cannot change {', '.join(changes)} of a RACECalculator: make a new one")
        return super().set()

    def reset(self) -> None:
        super().reset()
        self._prediction = None

    def export_properties(self) -> Properties:
        """The results that have a standard ASE name."""
        return Properties({name: value for name, value in self.results.items() if name in all_properties})


def offered_properties(checkpoint: Checkpoint, members: bool, forces_epistemic: bool) -> list[str]:
    """Names of everything that the posterior can give; members and head decide. The stress needs a volume besides."""
    head, noise = checkpoint.model.plan.config.head, checkpoint.noise is not None
    epistemic = ["_epistemic"] if checkpoint.members > 1 else []
    spread = epistemic if forces_epistemic else []
    energy = epistemic + (["_aleatoric"] if head != "mse" or noise else [])
    forces = spread + (["_aleatoric"] if head == "joint" or noise else [])
    parts = {"energy_uncertainty": energy, "forces_uncertainty": forces, "forces_covariance": forces,
             "stress_uncertainty": spread, "stress_covariance": spread}
    offered = ["energy", "free_energy", "energies", "forces", "stress", "calibrated"]
    for name, known in parts.items():
        total = known and (name == "energy_uncertainty" or spread == epistemic)
        offered += [name + part for part in ([""] if total else []) + known]
    for name, known in (("bald_energy", energy), ("bald_forces", forces)):
        offered += [name] if len(known) == 2 else []
    return offered + (["energies_members"] + (["forces_members"] if forces_epistemic else []) if members else [])


def results_of(prediction: Prediction) -> dict[str, float | np.ndarray]:
    """A Prediction of one structure as ASE results; keys and units as in `RACECalculator`."""
    p = prediction
    diagonal = lambda covariance: np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))  # noqa: E731
    epistemic, aleatoric, spread = p.has_epistemic, p.energy_aleatoric is not None, p.has_epistemic_forces
    found = {
        "energy": p.energy[0],
        "free_energy": p.energy[0],
        "energies": p.energies,
        "forces": p.forces,
        "energy_uncertainty": None if p.energy_uncertainty is None else p.energy_uncertainty[0],
        "energy_uncertainty_epistemic": np.sqrt(p.energy_epistemic[0]) if epistemic else None,
        "energy_uncertainty_aleatoric": np.sqrt(p.energy_aleatoric[0]) if aleatoric else None,
        "forces_uncertainty": p.forces_uncertainty,
        "forces_covariance": p.forces_covariance,
        "bald_energy": None if p.bald_energy is None else p.bald_energy[0],
        "bald_forces": p.bald_forces,
        "energies_members": None if p.energies_members is None else p.energies_members[:, 0],
        "forces_members": p.forces_members,
    }
    if spread:
        found["forces_covariance_epistemic"] = p.forces_covariance_epistemic
        found["forces_uncertainty_epistemic"] = diagonal(p.forces_covariance_epistemic)
    if p.forces_covariance_aleatoric is not None:
        found["forces_covariance_aleatoric"] = p.forces_covariance_aleatoric
        found["forces_uncertainty_aleatoric"] = diagonal(p.forces_covariance_aleatoric)
    if p.stress is not None:
        found["stress"] = p.stress[0]
        if spread:
            covariance = p.stress_covariance_epistemic[0]
            found["stress_covariance"] = found["stress_covariance_epistemic"] = covariance
            found["stress_uncertainty"] = found["stress_uncertainty_epistemic"] = diagonal(covariance)
    plain = {name: float(value) if np.ndim(value) == 0 else np.array(value) for name, value in found.items() if value is not None}
    return plain | {"calibrated": p.calibrated}


def _dtype(name: str) -> torch.dtype:
    if name not in ("float32", "float64"):
        raise ValueError(f'dtype is {name!r}: use "float64" or "float32"')
    return getattr(torch, name)
