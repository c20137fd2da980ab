"""What a model said about labelled structures, beside what is true: the input of calibration and evaluation. NumPy only."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

OF_STRUCTURES: dict[str, tuple[int, ...]] = {  # field → its shape after B
    "energy": (),
    "energy_variance": (),
    "energy_aleatoric": (),
    "stress": (6,),
    "stress_covariance": (6, 6),
    "stress_aleatoric": (6, 6),
}
OF_ATOMS = {  # and after N
    "forces": (3,),
    "forces_covariance": (3, 3),
    "forces_aleatoric": (3, 3),
    "forces_nearby": (),
    "frame": (),
    "numbers": (),
    "force_size": (),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Residuals:
    """Differences and predicted (co)variances of B structures with N atoms in total. Any model's numbers can be given.

    ================= =============== ======== ==========================================================
    field             shape           unit     meaning
    ================= =============== ======== ==========================================================
    energy            (B,)            eV       reference − prediction, total energy
    energy_variance   (B,) or None    eV²      predicted, total (epistemic + aleatoric)
    energy_aleatoric  (B,) or None    eV²      the aleatoric part of it, where it is known
    forces            (N, 3)          eV/Å     reference − prediction
    forces_covariance (N, 3, 3), None (eV/Å)²  predicted, total
    forces_aleatoric  (N, 3, 3), None (eV/Å)²  the aleatoric part of it; None: all of it is spread, or of unknown kind
    forces_nearby     (N,) or None    (eV/Å)²  `Prediction.forces_nearby`; None where it is not known
    stress            (B, 6), None    eV/Å³    reference − prediction, Voigt; NaN for structures without a label or a volume
    stress_covariance (B, 6, 6), None (eV/Å³)² predicted, total
    stress_aleatoric  (B, 6, 6), None (eV/Å³)² the aleatoric part of it
    frame             (N,)                     structure of each atom, 0 … B − 1
    numbers           (N,)                     atomic numbers
    force_size        (N,)            eV/Å     length of the reference force
    spread_members    int or None              independent members whose spread is the variance of the energies, beside the
                                               aleatoric part; None where it comes from something else
    forces_members    int or None              members whose spread is all of the covariance; None where it has an
                                               aleatoric part as well
    stress_members    int or None              the same of that of the stress
    forces_optional   bool                     as in `Prediction`
    ================= =============== ======== ==========================================================

    Raises ValueError for no structures and for shapes that do not fit together.
    """

    energy: np.ndarray
    forces: np.ndarray
    frame: np.ndarray
    numbers: np.ndarray
    force_size: np.ndarray
    energy_variance: np.ndarray | None = None
    energy_aleatoric: np.ndarray | None = None
    forces_covariance: np.ndarray | None = None
    forces_aleatoric: np.ndarray | None = None
    forces_nearby: np.ndarray | None = None
    stress: np.ndarray | None = None
    stress_covariance: np.ndarray | None = None
    stress_aleatoric: np.ndarray | None = None
    spread_members: int | None = None
    forces_members: int | None = None
    stress_members: int | None = None
    forces_optional: bool = False

    def __post_init__(self) -> None:
        structures, atoms = len(self.energy), len(self.forces)
        shapes = [(name, (structures, *rest)) for name, rest in OF_STRUCTURES.items()]
        shapes += [(name, (atoms, *rest)) for name, rest in OF_ATOMS.items()]
        for name, shape in shapes:
            values = getattr(self, name)
            if values is not None and np.shape(values) != shape:
                sizes = f"there are {structures} structures and {atoms} atoms"
                raise ValueError(f"{name} has the shape {np.shape(values)}, expected {shape}: {sizes}")
        if structures == 0:
            raise ValueError("there are no structures: give at least one")
        if not np.array_equal(np.unique(self.frame), np.arange(structures)):
            raise ValueError(f"frame must number the structures of the atoms from 0 to {structures - 1}, with at least one atom each")

    def __len__(self) -> int:
        return len(self.energy)

    @property
    def energy_members(self) -> int | None:
        """Members whose spread is all of the variance of the energies; None where it has an aleatoric part as well, or is no spread."""
        return self.spread_members if self.energy_aleatoric is None else None

    @property
    def energy_std(self) -> np.ndarray | None:
        """Predicted standard deviation of the energies, (B,) eV."""
        return None if self.energy_variance is None else np.sqrt(self.energy_variance)

    @property
    def forces_std(self) -> np.ndarray | None:
        """Predicted standard deviation of the force components, (N, 3) eV/Å."""
        return None if self.forces_covariance is None else np.sqrt(np.diagonal(self.forces_covariance, axis1=-2, axis2=-1))

    @property
    def stress_std(self) -> np.ndarray | None:
        """Predicted standard deviation of the Voigt components, (B, 6) eV/Å³."""
        return None if self.stress_covariance is None else np.sqrt(np.diagonal(self.stress_covariance, axis1=-2, axis2=-1))

    @property
    def stress_labelled(self) -> np.ndarray:
        """Which structures have a difference of stresses, (B,)."""
        return np.zeros(len(self), dtype=bool) if self.stress is None else np.isfinite(self.stress).all(axis=1)

    def subset(self, structures: np.ndarray) -> "Residuals":
        """Only these structures (indices, each at most once), numbered anew in the order given."""
        structures = np.asarray(structures)
        place = np.full(len(self), -1)
        place[structures] = np.arange(len(structures))
        atoms = np.flatnonzero(place[self.frame] >= 0)
        picked: dict[str, Any] = {}
        for names, rows in ((OF_STRUCTURES, structures), (OF_ATOMS, atoms)):
            picked |= {name: getattr(self, name)[rows] for name in names if getattr(self, name) is not None}
        return replace(self, **picked | {"frame": place[self.frame[atoms]]})
