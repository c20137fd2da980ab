"""torch-sim: a model for its batched dynamics, with uncertainties as further outputs. Importing this needs torch-sim."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from race_calc.interfaces.served import Served
from race_calc.uncertainty.decisions import Violation
from race_calc.uncertainty.prediction import Prediction

try:
    from torch_sim.models.interface import ModelInterface
except ImportError as error:
    raise ImportError(f"{error}: pip install 'race_calc[torch-sim]'") from error


class RaceModel(ModelInterface):
    """All systems of a state in one evaluation of all members.

    >>> model = RaceModel("models/3bpa-de")  # doctest: +SKIP
    >>> torch_sim.integrate(system=structures, model=model, integrator=…)  # doctest: +SKIP

    model: folder of a checkpoint. device, dtype: of the tensors that come and go; `options` of `RACECalculator`. With B systems of N atoms
    together a call gives energy (B,), forces (N, 3), stress (B, 3, 3; zero where there is no volume), energies (N,), and where the model
    has them energy_uncertainty (B,), forces_uncertainty (N, 3), forces_covariance (N, 3, 3) and energy_ensemble (B, M); in eV and Å,
    calibrated where the model is. Attributes: `prediction` of the last call, and `violation`: what the default monitor says of the worst
    of its systems, None where all is well. torch-sim has no halt of its own: look at it between steps or in a reporter.

    Raises what `RACECalculator` raises; a call raises ValueError for a structure that cannot be evaluated.
    """

    def __init__(
        self, model: str | Path, device: str | torch.device | None = None, dtype: torch.dtype = torch.float64, **options: Any
    ) -> None:
        super().__init__()
        self.served = Served(model, device=None if device is None else str(device), dtype=str(dtype).removeprefix("torch."), **options)
        self._device = torch.device("cpu" if device is None else device)
        self._dtype = dtype
        self._compute_stress = self._compute_forces = True
        self._memory_scales_with = "n_atoms_x_density"
        self.prediction: Prediction | None = None
        self.violation: Violation | None = None
        self.calls = 0

    def forward(self, state: Any, **_: Any) -> dict[str, torch.Tensor]:
        """state: a `torch_sim.SimState`, or a dictionary of its tensors."""
        get: Any = state.get if isinstance(state, dict) else lambda name: getattr(state, name)
        structures = structures_of(get("positions"), get("atomic_numbers"), get("cell"), get("pbc"), get("system_idx"))
        self.prediction = prediction = self.served.evaluate(structures)
        self.violation = self.served.halted(prediction, structures, self.calls)
        self.calls += 1
        stress = np.zeros((len(structures), 3, 3))
        if prediction.stress is not None:
            stress = voigt_6_to_full_3x3_stress(np.nan_to_num(prediction.stress))
        found: dict[str, Any] = {"energy": prediction.energy, "forces": prediction.forces, "stress": stress}
        found |= {name: prediction.value(name) for name in ("energies", "energy_uncertainty", "forces_uncertainty", "forces_covariance")}
        if prediction.energies_members is not None:
            found["energy_ensemble"] = prediction.energies_members.T
        return {name: torch.as_tensor(value, dtype=self._dtype, device=self._device) for name, value in found.items() if value is not None}


def structures_of(positions: torch.Tensor, numbers: torch.Tensor, cell: torch.Tensor, pbc: Any, system: torch.Tensor | None) -> list[Atoms]:
    """Of B systems: positions (N, 3) in Å, cell (B, 3, 3) with vectors in columns, the system of each atom (N,), sorted; pbc for all."""
    x, z, cells = (tensor.detach().cpu().numpy() for tensor in (positions, numbers, cell))
    counts = [len(x)] if system is None else np.bincount(system.cpu().numpy(), minlength=len(cells))
    ends = np.cumsum(counts)
    periodic = np.broadcast_to(torch.as_tensor(pbc).cpu().numpy(), 3)
    return [
        Atoms(z[end - n : end], x[end - n : end].astype(np.float64), cell=one.T.astype(np.float64), pbc=periodic)
        for n, end, one in zip(counts, ends, cells.reshape(-1, 3, 3))
    ]
