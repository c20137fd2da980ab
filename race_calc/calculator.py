"""RACECalculator: a trained RACE posterior as an ASE calculator."""

from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes, all_properties
from ase.outputs import Properties

from race_calc.checkpoint import load_checkpoint
from race_calc.graph import from_atoms
from race_calc.memory import keep_freed_memory
from race_calc.posterior.stack import load_stack
from race_calc.prediction import Prediction

UNCERTAINTY_PROPERTIES = [
    f"{name}{part}"
    for name in ("energy_uncertainty", "forces_uncertainty", "forces_covariance", "stress_uncertainty")
    for part in ("", "_epistemic", "_aleatoric")
] + ["stress_covariance", "stress_covariance_epistemic", "bald_energy", "bald_forces"]


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
    energies_members              (M,)      eV      only with `members=True`
    forces_members                (M, N, 3) eV/Å    only with `members=True`
    ============================= ========= ======= ================================================

    A quantity that the posterior does not give (BALD of a single member, covariances of the head `energy`)
    is absent, and asking for it raises ASE's PropertyNotImplementedError.

    Parameters: `model`, folder of a checkpoint. `device`, "cpu", "cuda", … or None: CUDA where there is one.
    `dtype`, "float64" or "float32". `members`, also give every member's energy and forces.

    Raises FileNotFoundError or CheckpointError for a folder that cannot be loaded, ValueError for an
    impossible device or dtype; `calculate` raises ValueError for a structure that cannot be evaluated.
    """

    name = "race"
    ignored_changes = {"initial_magmoms", "initial_charges"}

    def __init__(self, model: str | Path, device: str | None = None, dtype: str = "float64", members: bool = False):
        super().__init__()
        keep_freed_memory()
        self.implemented_properties = ["energy", "free_energy", "energies", "forces", "stress", *UNCERTAINTY_PROPERTIES]
        if members:
            self.implemented_properties += ["energies_members", "forces_members"]
        self.checkpoint = load_checkpoint(model)
        self.posterior = load_stack(self.checkpoint, _dtype(dtype), torch_device(device))
        self.parameters.update(model=str(model), dtype=dtype)
        self._prediction: Prediction | None = None

    @property
    def thresholds(self) -> dict[str, float]:
        """What "auto" means for each criterion of the monitor, from the checkpoint."""
        return dict(self.checkpoint.thresholds)

    def prediction(self, atoms: Atoms | None = None) -> Prediction:
        """The whole Prediction for `atoms`; evaluates the model only if the results are not current."""
        self.get_property("energy", atoms)
        return self._prediction

    def calculate(self, atoms: Atoms | None = None, properties=("energy",), system_changes=all_changes) -> None:
        """Evaluate all members once and fill `results` with everything they give."""
        super().calculate(atoms, properties, system_changes)
        graph = from_atoms(self.atoms, self.checkpoint.model.plan.config.cutoff)
        self._prediction = self.posterior.predict(graph)
        known = results_of(self._prediction)
        self.results = {name: known[name] for name in self.implemented_properties if name in known}

    def reset(self) -> None:
        super().reset()
        self._prediction = None

    def export_properties(self) -> Properties:
        """The results that have a standard ASE name."""
        return Properties({name: value for name, value in self.results.items() if name in all_properties})


def results_of(prediction: Prediction) -> dict[str, float | np.ndarray]:
    """A Prediction of one structure as ASE results; keys and units as in `RACECalculator`."""
    p = prediction
    diagonal = lambda covariance: np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))  # noqa: E731
    epistemic, aleatoric = p.has_epistemic, p.energy_aleatoric is not None
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
    if epistemic:
        found["forces_covariance_epistemic"] = p.forces_covariance_epistemic
        found["forces_uncertainty_epistemic"] = diagonal(p.forces_covariance_epistemic)
    if p.forces_covariance_aleatoric is not None:
        found["forces_covariance_aleatoric"] = p.forces_covariance_aleatoric
        found["forces_uncertainty_aleatoric"] = diagonal(p.forces_covariance_aleatoric)
    if p.stress is not None:
        found["stress"] = p.stress[0]
        if epistemic:
            covariance = p.stress_covariance_epistemic[0]
            found["stress_covariance"] = found["stress_covariance_epistemic"] = covariance
            found["stress_uncertainty"] = found["stress_uncertainty_epistemic"] = diagonal(covariance)
    return {
        name: float(value) if np.ndim(value) == 0 else np.array(value)
        for name, value in found.items()
        if value is not None
    }


def _dtype(name: str) -> torch.dtype:
    if name not in ("float32", "float64"):
        raise ValueError(f'dtype is {name!r}: use "float64" or "float32"')
    return getattr(torch, name)


def torch_device(name: str | None) -> torch.device:
    """The device of that name; None is CUDA where there is one. Raises ValueError for one that cannot be used."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f'device is {name!r}: use "cpu", "cuda" or "cuda:0"') from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f'device is {name!r}, but this machine has no CUDA GPU that torch can use: use device="cpu"')
    return device
