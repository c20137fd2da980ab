"""i-PI: a model as the potential of its `ffdirect`, and of drivers for its `ffsocket`, with the uncertainties as extras and the halt.

The input names this file (`race-calc ipi-driver --path`) as a custom PES; units are the atomic ones of i-PI.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from ase.stress import voigt_6_to_full_3x3_stress

from race_calc.interfaces.served import Served
from race_calc.uncertainty.decisions import Violation
from race_calc.uncertainty.prediction import Prediction, principal_std

__DRIVER_NAME__ = "race"  # how i-PI finds the class
__DRIVER_CLASS__ = "RaceDriver"
OLDEST = (3, 3)


class RaceDriver:
    """Energies, forces, virials and extras of one structure, or of all beads in one evaluation.

    model: folder of a checkpoint. template: a file with the elements of the atoms in the order of i-PI, and with the directions in which
    the system repeats. dtype: "float64" or "float32". committee_forces: False leaves forces and virials of the members out of the extras.
    halt_file: written when the default monitor asks for a halt; i-PI ends after the step at which it finds an EXIT where it runs, and
    leaves a RESTART. "" for no halt. The last reason is in `violation`.

    Raises ValueError for an i-PI that is missing or too old and for a template with other elements than the model knows.
    """

    def __init__(
        self,
        model: str | Path,
        template: str | Path,
        dtype: str = "float64",
        committee_forces: bool = True,
        halt_file: str | Path = "EXIT",
        **_: Any,  # i-PI adds what every PES may have, such as its verbosity
    ):
        self.units = imported()
        self.served = Served(model, dtype=dtype)
        self.template: Atoms = read(template)  # type: ignore[assignment]
        self.served.check_elements(self.template.symbols)
        self.committee_forces, self.halt_file = committee_forces, str(halt_file)
        self.violation: Violation | None = None
        self.evaluations = 0

    def __call__(self, cell: Any, pos: Any) -> Any:
        """cell: (3, 3), vectors in columns, bohr; pos: (N, 3), bohr; lists of them for several structures.

        Returns energy in hartree, forces (N, 3), virial (3, 3) and the extras as JSON, or a list of these.
        """
        if not isinstance(pos, list):
            return self._evaluated([cell], [pos])[0]
        return self._evaluated(cell, pos)

    compute = compute_structure = __call__

    def _evaluated(self, cells: Sequence[np.ndarray], positions: Sequence[np.ndarray]) -> list[tuple]:
        bohr = self.units("length", "angstrom", 1.0)
        structures = [self._structure(np.asarray(cell) / bohr, np.asarray(pos) / bohr) for cell, pos in zip(cells, positions)]
        prediction = self.served.evaluate(structures if len(structures) > 1 else structures[0])
        self._judge(prediction, structures)
        self.evaluations += 1
        return [self._told(prediction, atoms, b) for b, atoms in enumerate(structures)]

    def _structure(self, cell: np.ndarray, positions: np.ndarray) -> Atoms:
        atoms, positions = self.template.copy(), positions.reshape(-1, 3)
        if len(positions) != len(atoms):
            raise ValueError(f"i-PI has {len(positions)} atoms and the template {len(atoms)}: give its structure as the template")
        atoms.positions = positions
        if atoms.pbc.any():
            atoms.cell[:] = cell.T
        return atoms

    def _judge(self, prediction: Prediction, structures: list[Atoms]) -> None:
        violation = self.served.halted(prediction, structures, self.evaluations) if self.halt_file else None
        if violation is not None:
            self.violation = violation
            Path(self.halt_file).write_text(f"{violation}\n", encoding="utf-8")

    def _told(self, prediction: Prediction, atoms: Atoms, b: int) -> tuple:
        energy, force = self.units("energy", "electronvolt", 1.0), self.units("force", "ev/ang", 1.0)
        mine = prediction.batch == b
        extras: dict[str, Any] = {"halt": float(self.violation is not None)}
        if prediction.energy_uncertainty is not None:
            extras["energy_uncertainty"] = float(prediction.energy_uncertainty[b]) * energy
        if prediction.forces_covariance is not None:
            extras["forces_uncertainty"] = (principal_std(prediction.forces_covariance[mine]) * force).tolist()
        if prediction.n_members > 1 and prediction.energies_members is not None and prediction.energy_epistemic is not None:
            factor = committee_factor(prediction)[b]
            extras["committee_pot"] = (energy * around(prediction.energies_members[:, b], prediction.energy[b], factor)).tolist()
            if self.committee_forces and prediction.forces_members is not None:
                forces = around(prediction.forces_members[:, mine], prediction.forces[mine], factor)
                extras["committee_force"] = (force * forces).reshape(prediction.n_members, -1).tolist()
                virials = np.zeros((prediction.n_members, 3, 3))
                if prediction.stress is not None and prediction.stress_members is not None:
                    virials = virial(around(prediction.stress_members[:, b], prediction.stress[b], factor), atoms)
                extras["committee_virial"] = (energy * virials).tolist()
        found = np.zeros((3, 3)) if prediction.stress is None else virial(prediction.stress[b], atoms)
        return float(prediction.energy[b]) * energy, prediction.forces[mine] * force, found * energy, json.dumps(extras)


def committee_factor(prediction: Prediction) -> np.ndarray:
    """(B,): by how much to stretch the members around their mean, so that i-PI's standard deviation of their energies, which divides by
    M − 1, is the (calibrated) epistemic σ of the energy: its `alpha` stays 1."""
    assert prediction.energies_members is not None and prediction.energy_epistemic is not None
    spread = prediction.energies_members.std(0, ddof=1)
    return np.divide(np.sqrt(prediction.energy_epistemic), spread, out=np.ones_like(spread), where=spread > 0)


def around(members: np.ndarray, mean: np.ndarray, factor: float) -> np.ndarray:
    """Members (M, …) stretched by a factor, with this mean."""
    return mean + factor * (members - members.mean(0))


def virial(stress: np.ndarray, atoms: Atoms) -> np.ndarray:
    """(…, 3, 3) in eV from a Voigt stress (…, 6); zero for a structure without a volume, whose stress is NaN."""
    known = stress if np.isfinite(stress).all() else np.zeros_like(stress)
    return np.asarray(voigt_6_to_full_3x3_stress(-known * atoms.cell.volume))


def imported() -> Any:
    """i-PI's `unit_to_internal`. Raises ValueError where i-PI is missing or too old."""
    try:
        from ipi._version import __version__ as version
        from ipi.utils.units import unit_to_internal
    except ImportError as error:
        raise ValueError(f"{error}: pip install 'race_calc[ipi]'") from error
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise ValueError(f"i-PI {version} is too old: update it to {'.'.join(map(str, OLDEST))} or newer (pip install -U ipi)")
    return unit_to_internal
